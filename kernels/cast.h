#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// destination = source, with each value rounded to the destination's dtype (to nearest, ties to even; f64 to bf16 goes through
// f32).
//   Both have the same shape and are contiguous, of any floating dtypes (on a GPU f32 and bf16).
// Throws Error when shapes or devices differ, or when a dtype is not floating.
void cast(Tensor& destination, const Tensor& source);

// Returns a new tensor, or `source` itself when it already has that dtype. Throws Error as above.
Tensor cast(const Tensor& source, DType dtype);

namespace cpu {
void cast(Tensor& destination, const Tensor& source);
}  // namespace cpu
namespace cuda {
void cast(Tensor& destination, const Tensor& source);
}  // namespace cuda

}  // namespace echo::kernels
