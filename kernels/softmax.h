#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// y = softmax(scale * x) over the last dimension.
//   x, y: (..., N), the same dtype (f32, bf16; f64 on the CPU), contiguous; y may be x. Sums in f32 (f64 for f64). The row
//   maximum is subtracted first: exp overflows f32 above 88.7, and softmax is invariant to a shift.
// Throws Error when shapes, dtypes, strides or devices differ.
void softmax_forward(Tensor& y, const Tensor& x, double scale);

// dx = scale * y * (dy - sum(dy * y)), the gradient of softmax_forward; overwrites. dx may be dy.
void softmax_backward(Tensor& dx, const Tensor& dy, const Tensor& y, double scale);

namespace cpu {

// Arguments as above, already checked.
decltype(kernels::softmax_forward) softmax_forward;
decltype(kernels::softmax_backward) softmax_backward;

}  // namespace cpu
namespace cuda {

decltype(kernels::softmax_forward) softmax_forward;
decltype(kernels::softmax_backward) softmax_backward;

}  // namespace cuda
}  // namespace echo::kernels
