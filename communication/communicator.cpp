#include "communication/communicator.h"

#include <algorithm>
#include <chrono>

namespace echo {

RankSlice slice_of_rank(int64_t elements, int64_t rank, int64_t world) {
  const int64_t length = (elements + world - 1) / world;
  const int64_t begin = std::min(elements, rank * length);
  return {begin, std::min(length, elements - begin)};
}

double timed_wait(Exchange& exchange) {
  const auto start = std::chrono::steady_clock::now();
  exchange.wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t sum_over_ranks(Communicator& communicator, int64_t value) {
  if (communicator.world() == 1) return value;
  Tensor sum = Tensor::from<double>({double(value)});
  communicator.all_reduce_sum(sum);
  return int64_t(sum.item());
}

std::string text_of_first(Communicator& communicator, const std::string& text) { return communicator.all_gather(text).front(); }

}  // namespace echo
