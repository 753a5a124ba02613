#pragma once

#include <span>

#include "tensor/tensor.h"

namespace echo::kernels {

// The Euclidean norm of all elements of all tensors together. The tensors are contiguous, of floating dtypes in any mix (on a
// GPU f32 and bf16), on one device. Undefined tensors are ignored. Squares are summed in f64. Waits for the GPU. Throws Error
// when a tensor is not contiguous or not floating, or when devices differ.
double gradient_norm(std::span<const Tensor> gradients);

// The factor for gradients that limits their norm to `max_norm`: min(1, max_norm / (norm + 1e-6)), as in PyTorch's
// clip_grad_norm_. 1 when max_norm <= 0 (no clipping). NaN when the norm is not finite; then the step must not be taken.
double clip_coefficient(double norm, double max_norm);

namespace cpu {
decltype(kernels::gradient_norm) gradient_norm;
}  // namespace cpu
namespace cuda {
decltype(kernels::gradient_norm) gradient_norm;
}  // namespace cuda

}  // namespace echo::kernels
