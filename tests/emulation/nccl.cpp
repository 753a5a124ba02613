// NCCL between emulated ranks. A call returns at once. A rank's array is read, and its result written, as late as possible:
// when the rank asks for the result, and its stream has done everything before. Calls that differ would hang on real GPUs. Here
// they are an error that all ranks see, with the calls of both ranks.
#include <nccl.h>

#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/bfloat16.h"
#include "tests/emulation/emulator.h"

namespace {

using cuda_emulation::copy_device_bytes;
using Bytes = std::vector<std::byte>;

struct Call {
  std::string text;  // equal on all ranks
  Bytes sent;
  bool is_sent = false;
};

// The call that all ranks make as their n-th.
struct Round {
  std::vector<std::unique_ptr<Call>> calls;  // by rank; null: has not come
  size_t sent = 0;
};

struct Clique {
  explicit Clique(int world) : ranks(size_t(world)) {}
  size_t ranks;
  size_t connected = 0, finished = 0;
  std::string failure;  // empty: none
  std::map<size_t, Round> rounds;
};

std::map<std::string, std::shared_ptr<Clique>> cliques;
int ids = 0;

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

const char* name_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return "uint8";
    case ncclInt32:
      return "int32";
    case ncclInt64:
      return "int64";
    case ncclFloat32:
      return "float32";
    case ncclFloat64:
      return "float64";
    case ncclBfloat16:
      return "bfloat16";
  }
  return "unknown";
}

template <class T>
void add(std::byte* sums, const std::byte* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    T a, b;
    std::memcpy(&a, sums + i * sizeof a, sizeof a);
    std::memcpy(&b, values + i * sizeof b, sizeof b);
    a = T(a + b);
    std::memcpy(sums + i * sizeof a, &a, sizeof a);
  }
}

void add(std::byte* sums, const std::byte* values, size_t count, ncclDataType_t type) {
  if (type == ncclFloat32) return add<float>(sums, values, count);
  if (type == ncclFloat64) return add<double>(sums, values, count);
  if (type != ncclBfloat16) throw std::runtime_error("emulated NCCL: sums of this type are not needed");
  for (size_t i = 0; i < count; ++i) {
    echo::bfloat16 a, b;
    std::memcpy(&a, sums + i * 2, 2);
    std::memcpy(&b, values + i * 2, 2);
    a = echo::bfloat16(float(a) + float(b));
    std::memcpy(sums + i * 2, &a, 2);
  }
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  size_t rank = 0, calls = 0;
  bool is_finalized = false;
};

namespace {

// `result` makes this rank's result from the arrays of all.
using Result = std::function<Bytes(const std::vector<const Bytes*>& sent)>;

ncclResult_t enqueue(ncclComm_t communicator, cudaStream_t stream, const std::string& text, const void* send, size_t bytes,
                     void* receive, Result result) {
  const std::shared_ptr<Clique> clique = communicator->clique;
  const size_t rank = communicator->rank, number = communicator->calls++;
  cuda_emulation::check_device_pointer(send);
  cuda_emulation::check_device_pointer(receive);
  Round& round = clique->rounds[number];
  round.calls.resize(clique->ranks);
  for (size_t other = 0; other < clique->ranks && clique->failure.empty(); ++other)
    if (round.calls[other] && round.calls[other]->text != text)
      clique->failure = echo::concat("a hang: call ", number + 1, " is ", text, " on rank ", rank, " and ",
                                     round.calls[other]->text, " on rank ", other);
  if (!clique->failure.empty()) return ncclInternalError;
  round.calls[rank] = std::make_unique<Call>(Call{text, Bytes(bytes)});
  cuda_emulation::add_later_work(stream, [=] {
    Round& here = clique->rounds[number];
    if (Call& call = *here.calls[rank]; !call.is_sent) {
      copy_device_bytes(call.sent.data(), send, bytes);
      call.is_sent = true;
      ++here.sent;
    }
    if (here.sent < clique->ranks) return false;
    std::vector<const Bytes*> sent;
    for (const auto& of_rank : here.calls) sent.push_back(&of_rank->sent);
    const Bytes received = result(sent);
    copy_device_bytes(receive, received.data(), received.size());
    return true;
  });
  return ncclSuccess;
}

}  // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = {};
  const char* const address = std::getenv("NCCL_COMM_ID");
  std::snprintf(id->internal, sizeof id->internal, "%s", address ? address : std::to_string(++ids).c_str());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  std::shared_ptr<Clique>& clique = cliques[id.internal];
  if (!clique) clique = std::make_shared<Clique>(ranks);
  if (clique->ranks != size_t(ranks)) return ncclInvalidArgument;
  *communicator = new ncclComm{clique, size_t(rank)};
  if (++clique->connected == clique->ranks) cliques.erase(id.internal);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* error) {
  const Clique& clique = *communicator->clique;
  const auto is_waiting = [&] {
    return clique.connected < clique.ranks || (communicator->is_finalized && clique.finished < clique.ranks);
  };
  if (is_waiting()) cuda_emulation::let_others_run();
  if (!clique.failure.empty()) return *error = ncclRemoteError, ncclSuccess;
  return *error = is_waiting() ? ncclInProgress : ncclSuccess, ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t communicator) {
  communicator->is_finalized = true;
  return ++communicator->clique->finished == communicator->clique->ranks ? ncclSuccess : ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t communicator) { return delete communicator, ncclSuccess; }
ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  if (communicator->clique->failure.empty()) communicator->clique->failure = "another rank has ended";
  return delete communicator, ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) { return "emulated error"; }
const char* ncclGetLastError(ncclComm_t communicator) { return communicator->clique->failure.c_str(); }

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t receive_count, ncclDataType_t type, ncclRedOp_t,
                               ncclComm_t communicator, cudaStream_t stream) {
  const size_t bytes = receive_count * size_of(type), begin = communicator->rank * bytes;
  return enqueue(communicator, stream, echo::concat("ncclReduceScatter(", receive_count, " ", name_of(type), ")"), send,
                 bytes * communicator->clique->ranks, receive, [=](const std::vector<const Bytes*>& sent) {
                   Bytes sums(sent[0]->begin() + long(begin), sent[0]->begin() + long(begin + bytes));
                   for (size_t i = 1; i < sent.size(); ++i) add(sums.data(), sent[i]->data() + begin, receive_count, type);
                   return sums;
                 });
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t send_count, ncclDataType_t type, ncclComm_t communicator,
                           cudaStream_t stream) {
  return enqueue(communicator, stream, echo::concat("ncclAllGather(", send_count, " ", name_of(type), ")"), send,
                 send_count * size_of(type), receive, [](const std::vector<const Bytes*>& sent) {
                   Bytes all;
                   for (const Bytes* of_rank : sent) all.insert(all.end(), of_rank->begin(), of_rank->end());
                   return all;
                 });
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  return enqueue(communicator, stream, echo::concat("ncclBroadcast(", count, " ", name_of(type), ")"), send,
                 count * size_of(type), receive, [root](const std::vector<const Bytes*>& sent) { return *sent[size_t(root)]; });
}
