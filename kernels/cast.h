#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// destination = source, each value rounded to the destination's dtype (nearest, ties to even; f64 goes to bf16 by way
// of f32).
//   The same shape, both contiguous, any floating dtypes; on a GPU f32 and bf16.
// Throws Error when shapes or devices differ, or a dtype is not a floating one.
void cast(Tensor& destination, const Tensor& source);

// A new tensor; `source` itself when it has that dtype already.
Tensor cast(const Tensor& source, DType dtype);

namespace cpu {
void cast(Tensor& destination, const Tensor& source);
}  // namespace cpu
namespace cuda {
void cast(Tensor& destination, const Tensor& source);
}  // namespace cuda

}  // namespace echo::kernels
