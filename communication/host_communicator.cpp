#include "communication/host_communicator.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

class HostExchange : public Exchange {
 public:
  HostExchange(Tensor values, Tensor host, std::future<void> done)
      : values_(std::move(values)), host_(std::move(host)), done_(std::move(done)) {}
  void wait() override {
    if (!done_.valid()) return;
    done_.get();
    if (!values_.device().is_cpu()) values_.copy_from(host_);
  }

 private:
  Tensor values_, host_;  // the same tensor on a CPU
  std::future<void> done_;
};

// sums = parts[0] + parts[1] + ..., in this order. Each part has `count` elements.
template <class T>
void add_in_order(T* sums, const T* parts, int64_t count, int64_t world) {
  std::array<accumulator<T>, 2048> totals;
  for (int64_t begin = 0; begin < count; begin += int64_t(totals.size())) {
    const int64_t length = std::min(int64_t(totals.size()), count - begin);
    const T* part = parts + begin;
    for (int64_t i = 0; i < length; ++i) totals[size_t(i)] = accumulator<T>(part[i]);
    for (int64_t rank = 1; rank < world; ++rank) {
      part += count;
      for (int64_t i = 0; i < length; ++i) totals[size_t(i)] += accumulator<T>(part[i]);
    }
    for (int64_t i = 0; i < length; ++i) sums[begin + i] = T(totals[size_t(i)]);
  }
}

}  // namespace

// Each rank gets its slice from all ranks and adds them up, then all ranks collect the sums. This moves as many bytes as a ring
// does, and the order of the additions is fixed.
void HostCommunicator::exchange(Line line, Kind kind, const Tensor& values) {
  const MemoryLabel label("communication");
  const int64_t ranks = world(), elements = values.elements(), step = std::max<int64_t>(1, kElementsOfRound / ranks);
  const int64_t length = slice_of_rank(elements, 0, ranks).count;
  auto* const bytes = static_cast<std::byte*>(values.raw_data());
  for (int64_t begin = 0; begin < length; begin += step) {
    Pieces pieces{{}, size_of(values.dtype())};
    for (int64_t i = 0; i < ranks; ++i) {
      const RankSlice slice = slice_of_rank(elements, i, ranks);
      const int64_t skipped = std::min(begin, slice.count);
      pieces.of_rank.push_back({slice.begin + skipped, std::min(step, slice.count - skipped)});
    }
    if (kind != Kind::all_gather) {
      const RankSlice own = pieces.of_rank[size_t(rank())];
      const Tensor parts = Tensor::empty({ranks * own.count}, values.dtype());
      exchange_pieces(line, bytes, pieces, static_cast<std::byte*>(parts.raw_data()));
      dispatch_float(values.dtype(), [&]<class T>() {
        add_in_order(reinterpret_cast<T*>(bytes) + own.begin, parts.data<T>(), own.count, ranks);
      });
    }
    if (kind != Kind::reduce_scatter) gather_pieces(line, bytes, pieces);
  }
}

void HostCommunicator::all_reduce_sum(Tensor& values) {
  ECHO_CHECK(values.defined() && values.is_contiguous() && (values.dtype() == DType::f32 || values.dtype() == DType::f64),
             "all_reduce_sum: ", values, ", expected contiguous f32 or f64");
  Tensor host = values.to(Device{});
  exchange(Line::caller, Kind::all_reduce, host);
  if (!values.device().is_cpu()) values.copy_from(host);
}

std::unique_ptr<Exchange> HostCommunicator::start(Kind kind, const char* name, Tensor values) {
  ECHO_CHECK(values.defined() && values.is_contiguous() && values.rank() == 1 && is_float(values.dtype()), name, ": ", values,
             ", expected contiguous f32, f64 or bf16 of one dimension");
  Tensor host = values.to(Device{});  // waits for a GPU
  std::future<void> done = background_.run([this, kind, host] { exchange(Line::background, kind, host); });
  return std::make_unique<HostExchange>(std::move(values), std::move(host), std::move(done));
}

std::unique_ptr<Exchange> HostCommunicator::start_all_reduce_sum(Tensor values) {
  return start(Kind::all_reduce, "start_all_reduce_sum", std::move(values));
}

std::unique_ptr<Exchange> HostCommunicator::start_reduce_scatter_sum(Tensor values) {
  return start(Kind::reduce_scatter, "start_reduce_scatter_sum", std::move(values));
}

std::unique_ptr<Exchange> HostCommunicator::start_all_gather_slices(Tensor values) {
  return start(Kind::all_gather, "start_all_gather_slices", std::move(values));
}

void HostCommunicator::broadcast(Tensor& values) {
  ECHO_CHECK(values.defined() && values.is_contiguous(), "broadcast: ", values, ", expected contiguous");
  Tensor host = values.to(Device{});
  copy_from_first(host.raw_data(), host.bytes());
  if (!values.device().is_cpu()) values.copy_from(host);
}

}  // namespace echo
