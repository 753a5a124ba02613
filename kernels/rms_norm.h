#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// y = x / sqrt(mean(x^2) + eps) * weight, over the last dimension.
//   x, y: (..., D), contiguous, of one dtype: f32, bf16, or f64 on the CPU. weight: (D), any floating dtype. inverse_rms:
//   (rows), accumulator dtype of x, written for the backward pass. The mean is accumulated in f32 (f64 for f64).
// Throws Error when shapes, dtypes or devices do not fit.
// Source: Zhang and Sennrich 2019, arXiv:1910.07467.
void rms_norm_forward(Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& weight, double eps);

// sum = x + delta and y = rms_norm(sum): the residual stream of a transformer. Each row is read and written once. Throws as
// above.
void add_rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta,
                          const Tensor& weight, double eps);

// dx = the gradient through y, plus d_sum if it is defined (the gradient of the residual sum itself).
//   dweight: (D) in the accumulator dtype, overwritten or accumulated. Undefined: not computed.
//   x is the input of the norm (`sum` for the fused form). dx may be dy.
// Throws Error when shapes, dtypes or devices do not fit.
void rms_norm_backward(Tensor& dx, Tensor& dweight, GradientMode weight_mode, const Tensor& dy, const Tensor& d_sum,
                       const Tensor& x, const Tensor& weight, const Tensor& inverse_rms);

namespace cpu {
void rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta, const Tensor& weight,
                      double eps);
decltype(kernels::rms_norm_backward) rms_norm_backward;
}  // namespace cpu
namespace cuda {
void rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta, const Tensor& weight,
                      double eps);
decltype(kernels::rms_norm_backward) rms_norm_backward;
}  // namespace cuda

}  // namespace echo::kernels
