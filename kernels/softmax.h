#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// y = softmax(scale * x) over the last dimension.
//   x, y: (..., N), contiguous, of one dtype: f32, bf16, or f64 on the CPU. y may be x. Sums are f32 (f64 for f64). The row
//   maximum is subtracted first: exp overflows f32 above 88.7, and softmax is invariant to a shift.
// Throws Error when shapes, dtypes or devices do not fit.
void softmax_forward(Tensor& y, const Tensor& x, double scale);

// dx = scale * y * (dy - sum(dy * y)): the gradient of softmax_forward. dx is overwritten, and may be dy. Throws as above.
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
