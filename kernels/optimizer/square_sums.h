#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// Elements whose squares are added up together.
inline constexpr int64_t kSquareSumLength = 1024;

// sums[i] = the sum of the squares of the elements from i * kSquareSumLength on, up to the next such group or the end.
// values: (N), contiguous, f32 or f64 (on a GPU f32). Returns (ceil(N / kSquareSumLength)) f64 on the same device. The sum of a
// group depends on its elements alone, so arrays that are cut between groups give the same bits. Throws Error otherwise.
Tensor square_sums(const Tensor& values);

namespace cpu {
decltype(kernels::square_sums) square_sums;
}  // namespace cpu
namespace cuda {
decltype(kernels::square_sums) square_sums;
}  // namespace cuda

}  // namespace echo::kernels
