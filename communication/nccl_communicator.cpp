#include "communication/nccl_communicator.h"

#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "communication/timeout.h"
#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kPause{20};  // between two looks at an exchange that is not done
constexpr std::chrono::seconds kFarewell{2};     // for the others when a rank leaves

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i32:
      return ncclInt32;
    default:
      return ncclInt64;
  }
}

class Event {
 public:
  Event() { ECHO_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// The connection of this rank. NCCL's calls return before the other ranks have come (blocking = 0), so each wait has a limit of
// time. After a failure the connection is gone: the work that hangs on the GPU is aborted, and every later call fails too.
class Connection {
 public:
  Connection(const std::string& id, int64_t rank, int64_t world, double timeout) : timeout_(timeout) {
    ncclUniqueId unique;
    ECHO_CHECK(id.size() == sizeof unique, "an id of NCCL has ", id.size(), " bytes, expected ", sizeof unique);
    std::memcpy(&unique, id.data(), id.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    finish_call("connecting", ncclCommInitRankConfig(&communicator_, int(world), unique, int(rank), &config));
    timeout_ = 0;
  }
  // Other ranks may still read what this one has sent, so it waits for them, but not long, because one that failed does not
  // come.
  ~Connection() {
    if (communicator_ == nullptr) return;
    ncclResult_t result = ncclCommFinalize(communicator_);
    for (const auto start = Clock::now(); result == ncclInProgress && Clock::now() - start < kFarewell; result = state())
      std::this_thread::sleep_for(kPause);
    (void)(result == ncclSuccess ? ncclCommDestroy(communicator_) : ncclCommAbort(communicator_));
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void set_timeout(double seconds) { timeout_ = seconds; }
  bool is_alive() const { return communicator_ != nullptr; }

  // Makes a call of NCCL, and waits until it is in the stream.
  template <class Call>
  void call(const std::string& what, const Call& call_nccl) {
    check_alive();
    finish_call(what, call_nccl(communicator_));
  }
  // Returns when the device has reached the event.
  void wait_for(cudaEvent_t event, const std::string& what) {
    check_alive();
    wait(what, [&] {
      const cudaError_t status = cudaEventQuery(event);
      if (status == cudaErrorNotReady) return state() == ncclSuccess ? ncclInProgress : state();
      cuda::check(status, what);
      return ncclSuccess;
    });
  }

 private:
  void check_alive() const {
    if (!failure_.empty()) fail(ExitCode::unavailable, failure_);
  }
  ncclResult_t state() const {
    ncclResult_t result = ncclSuccess;
    const ncclResult_t status = ncclCommGetAsyncError(communicator_, &result);
    return status == ncclSuccess ? result : status;
  }
  void finish_call(const std::string& what, ncclResult_t result) {
    wait(what, [&] { return result == ncclInProgress ? result = state() : result; });
  }
  template <class Look>
  void wait(const std::string& what, const Look& look) {
    const auto start = Clock::now();
    try {
      for (;;) {
        const ncclResult_t result = look();
        if (result == ncclSuccess) return;
        if (result != ncclInProgress) fail(ExitCode::unavailable, "NCCL: ", ncclGetLastError(communicator_));
        check_timeout(start, timeout_);
        std::this_thread::sleep_for(kPause);
      }
    } catch (const Error& error) {
      failure_ = concat(what, ": ", error.what());
      if (communicator_ != nullptr) (void)ncclCommAbort(std::exchange(communicator_, nullptr));
    }
    check_alive();
  }

  ncclComm_t communicator_ = nullptr;
  double timeout_;       // seconds; 0: no limit
  std::string failure_;  // empty: the connection works
};

enum class Kind { all_reduce, reduce_scatter, all_gather };

// An exchange on the stream of exchanges. It works on `work`, which is `values` or a copy of it with equally long slices.
class NcclExchange : public Exchange {
 public:
  NcclExchange(std::shared_ptr<Connection> connection, std::string what, Tensor values, Tensor work)
      : connection_(std::move(connection)), what_(std::move(what)), values_(std::move(values)), work_(std::move(work)) {}
  // The memory may be used again by computation that follows, so that computation waits.
  ~NcclExchange() override {
    if (!is_done_ && connection_->is_alive()) (void)cudaStreamWaitEvent(cuda::stream(), done_.get(), 0);
  }
  void started_on(cudaStream_t stream) { ECHO_CUDA(cudaEventRecord(done_.get(), stream)); }
  // Waits on the host, because only the host can stop waiting for a rank that is gone.
  void wait() override {
    if (is_done_) return;
    connection_->wait_for(done_.get(), what_);
    is_done_ = true;
    if (!work_.shares_storage_with(values_)) values_.copy_from(work_.narrow(0, 0, values_.elements()));
  }

 private:
  std::shared_ptr<Connection> connection_;
  std::string what_;
  Tensor values_, work_;
  Event done_;
  bool is_done_ = false;
};

struct NoElements : Exchange {
  void wait() override {}
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<Communicator> starter, const std::string& id, int64_t rank, int64_t world, double timeout)
      : starter_(std::move(starter)), rank_(rank), world_(world), device_{DeviceKind::cuda, cuda::context().index} {
    connection_ = std::make_shared<Connection>(id, rank, world, timeout);
    ECHO_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~NcclCommunicator() override { (void)cudaStreamDestroy(stream_); }

  int64_t rank() const override { return rank_; }
  int64_t world() const override { return world_; }
  void all_reduce_sum(Tensor& values) override {
    ECHO_CHECK(values.defined() && values.is_contiguous() && (values.dtype() == DType::f32 || values.dtype() == DType::f64),
               "all_reduce_sum: ", values, ", expected contiguous f32 or f64");
    const Tensor there = values.to(device_);
    start(Kind::all_reduce, there.reshape({there.elements()}))->wait();
    if (values.device().is_cpu()) values.copy_from(there);
  }
  std::unique_ptr<Exchange> start_all_reduce_sum(Tensor values) override {
    return start_checked(Kind::all_reduce, "start_all_reduce_sum", values);
  }
  std::unique_ptr<Exchange> start_reduce_scatter_sum(Tensor values) override {
    return start_checked(Kind::reduce_scatter, "start_reduce_scatter_sum", values);
  }
  std::unique_ptr<Exchange> start_all_gather_slices(Tensor values) override {
    return start_checked(Kind::all_gather, "start_all_gather_slices", values);
  }
  void broadcast(Tensor& values) override {
    ECHO_CHECK(values.defined() && values.is_contiguous(), "broadcast: ", values, ", expected contiguous");
    if (values.elements() == 0) return;
    Tensor there = values.to(device_);
    NcclExchange exchange(connection_, name("broadcast", there), there, there);
    begin_after_computation();
    connection_->call(name("broadcast", there), [&](ncclComm_t communicator) {
      return ncclBroadcast(there.raw_data(), there.raw_data(), size_t(there.bytes()), ncclUint8, 0, communicator, stream_);
    });
    exchange.started_on(stream_);
    exchange.wait();
    if (values.device().is_cpu()) values.copy_from(there);
  }
  std::vector<std::string> all_gather(const std::string& message) override {
    Tensor lengths = Tensor::zeros({world_}, DType::i64);
    lengths.data<int64_t>()[rank_] = int64_t(message.size());
    lengths = gathered(lengths);
    const std::vector<int64_t> length = lengths.to_vector<int64_t>();
    const int64_t item = size_of(DType::i64), slice = (*std::max_element(length.begin(), length.end()) + item - 1) / item;
    Tensor texts = Tensor::zeros({world_ * slice}, DType::i64);
    if (!message.empty()) std::memcpy(texts.data<int64_t>() + rank_ * slice, message.data(), message.size());
    texts = gathered(texts);
    std::vector<std::string> messages;
    for (int64_t i = 0; i < world_; ++i)
      messages.emplace_back(reinterpret_cast<const char*>(texts.data<int64_t>() + i * slice), size_t(length[size_t(i)]));
    return messages;
  }
  void barrier() override { all_gather(""); }
  void set_timeout(double seconds) override { connection_->set_timeout(seconds); }
  void end_job(int exit_code) override { starter_->end_job(exit_code); }

 private:
  std::string name(const char* call, const Tensor& values) {
    return concat("exchange ", ++exchanges_, " (", call, " of ", values.elements(), " ", values.dtype(), ")");
  }
  // The stream of exchanges waits for everything that computes until now.
  void begin_after_computation() {
    ECHO_CUDA(cudaEventRecord(ready_.get(), cuda::stream()));
    ECHO_CUDA(cudaStreamWaitEvent(stream_, ready_.get(), 0));
  }
  Tensor gathered(const Tensor& host) {
    const Tensor there = host.to(device_);
    start(Kind::all_gather, there)->wait();
    return there.to(Device{});
  }

  std::unique_ptr<Exchange> start_checked(Kind kind, const char* what, const Tensor& values) {
    ECHO_CHECK(values.defined() && values.is_contiguous() && values.rank() == 1 && is_float(values.dtype()), what, ": ", values,
               ", expected contiguous f32, f64 or bf16 of one dimension");
    return start(kind, values);
  }
  // A sum over all ranks is a scattered sum and a gathering, so that it has the same bits as the two by themselves.
  std::unique_ptr<Exchange> start(Kind kind, const Tensor& values) {
    const int64_t elements = values.elements(), slice = slice_of_rank(elements, 0, world_).count;
    if (elements == 0) return std::make_unique<NoElements>();
    Tensor work = values;
    if (elements != slice * world_ || values.device().is_cpu()) {
      work = Tensor::zeros({slice * world_}, values.dtype(), device_);
      work.narrow(0, 0, elements).copy_from(values);
    }
    const char* const names[] = {"sum", "scattered sum", "gathered slices"};
    const std::string what = name(names[size_t(kind)], values);
    auto exchange = std::make_unique<NcclExchange>(connection_, what, values, work);
    auto* const all = static_cast<std::byte*>(work.raw_data());
    auto* const own = all + rank_ * slice * size_of(values.dtype());
    const ncclDataType_t type = type_of(values.dtype());
    begin_after_computation();
    if (kind != Kind::all_gather)
      connection_->call(what, [&](ncclComm_t communicator) {
        return ncclReduceScatter(all, own, size_t(slice), type, ncclSum, communicator, stream_);
      });
    if (kind != Kind::reduce_scatter)
      connection_->call(
          what, [&](ncclComm_t communicator) { return ncclAllGather(own, all, size_t(slice), type, communicator, stream_); });
    exchange->started_on(stream_);
    return exchange;
  }

  std::shared_ptr<Communicator> starter_;
  int64_t rank_, world_;
  Device device_;
  std::shared_ptr<Connection> connection_;
  cudaStream_t stream_ = nullptr;  // of the exchanges
  Event ready_;
  int64_t exchanges_ = 0;
};

}  // namespace

std::string new_nccl_id() {
  ncclUniqueId id;
  const ncclResult_t status = ncclGetUniqueId(&id);
  if (status != ncclSuccess) fail(ExitCode::unavailable, "NCCL cannot start: ", ncclGetErrorString(status));
  return {reinterpret_cast<const char*>(&id), sizeof id};
}

std::string nccl_id_at(const std::string& address) {
  ::setenv("NCCL_COMM_ID", address.c_str(), /*overwrite=*/1);
  return new_nccl_id();
}

std::shared_ptr<Communicator> make_nccl_communicator(std::shared_ptr<Communicator> starter, const std::string& id, int64_t rank,
                                                     int64_t world, double timeout) {
  return std::make_shared<NcclCommunicator>(std::move(starter), id, rank, world, timeout);
}

}  // namespace echo
