#include "communication/communicator.h"

namespace echo {

int64_t sum_over_ranks(Communicator& communicator, int64_t value) {
  if (communicator.world() == 1) return value;
  Tensor sum = Tensor::from<double>({double(value)});
  communicator.all_reduce_sum(sum);
  return int64_t(sum.item());
}

std::string text_of_first(Communicator& communicator, const std::string& text) { return communicator.all_gather(text).front(); }

}  // namespace echo
