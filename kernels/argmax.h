#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// index[i] = the first position of the largest entry of row i of x. -1 when the row has a NaN, or when its largest entry is not
// finite.
//   x: (N, V) f32, bf16, or f64 on the CPU, contiguous. index: (N) i32 on the same device.
// Throws Error when shapes, dtypes or devices do not fit.
void argmax(Tensor& index, const Tensor& x);

namespace cpu {
decltype(kernels::argmax) argmax;
}  // namespace cpu
namespace cuda {
decltype(kernels::argmax) argmax;
}  // namespace cuda

}  // namespace echo::kernels
