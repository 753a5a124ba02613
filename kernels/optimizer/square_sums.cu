// Sums of the squares of fixed groups on a GPU. A block owns one group of kSquareSumLength elements, and a thread owns one
// vector of it. Every element is read once. 8 bytes are written per group.
#include "kernels/cuda/sums.cuh"
#include "kernels/optimizer/square_sums.h"

namespace echo::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kSumThreads) square_groups(double* sums, const float* x, int64_t elements) {
  __shared__ double scratch[kSumThreads / kWarp];
  const int64_t begin = int64_t(blockIdx.x) * kSquareSumLength;
  const double total = slice_sum<SumOf::squares>(x + begin, min(kSquareSumLength, elements - begin), scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

}  // namespace

Tensor square_sums(const Tensor& values) {
  const int64_t groups = (values.elements() + kSquareSumLength - 1) / kSquareSumLength;
  const Tensor sums = Tensor::empty({groups}, DType::f64, values.device());
  if (groups > 0)
    launch(square_groups, unsigned(groups), kSumThreads, 0, stream(), sums.data<double>(), values.data<float>(),
           values.elements());
  return sums;
}

}  // namespace echo::kernels::cuda
