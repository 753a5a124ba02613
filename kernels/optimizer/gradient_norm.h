#pragma once

#include <span>

#include "tensor/tensor.h"

namespace echo::kernels {

// The Euclidean norm of all elements of all tensors together. Contiguous floating tensors, any mix of dtypes (on a GPU f32
// and bf16), on one device; undefined ones count as zero. Squares are summed in f64. On a GPU
// the host waits for the result.
double gradient_norm(std::span<const Tensor> gradients);

// What gradients are multiplied by so that their norm is at most `max_norm`: min(1, max_norm / (norm + 1e-6)), as
// PyTorch's clip_grad_norm_ does it. 1 when max_norm <= 0 (no clipping). NaN when the norm is not finite: the step must
// not be taken.
double clip_coefficient(double norm, double max_norm);

namespace cpu {
decltype(kernels::gradient_norm) gradient_norm;
}  // namespace cpu
namespace cuda {
decltype(kernels::gradient_norm) gradient_norm;
}  // namespace cuda

}  // namespace echo::kernels
