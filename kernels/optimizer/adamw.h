#pragma once

#include <span>

#include "tensor/tensor.h"

namespace echo::kernels {

// One parameter tensor of an AdamW step. The first four tensors have the same shape and dtype, f32 or f64 (on a GPU f32 only),
// and are contiguous, on one device.
struct AdamWSpan {
  Tensor parameter;      // read and written
  Tensor gradient;       // read
  Tensor first_moment;   // read and written; zeros before the first step
  Tensor second_moment;  // read and written; zeros before the first step
  double weight_decay = 0;
  // bf16, the same shape: the new parameter, rounded, is also written here in the same pass. Undefined: not written.
  Tensor compute_copy = {};
};

struct AdamWSettings {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  int64_t step = 1;           // 1 for the first update, when the moments are zero
  double gradient_scale = 1;  // multiplies every gradient first, so that clipping needs no extra pass
};

// One update of all tensors, in the order of operations of PyTorch's AdamW:
//   g = gradient_scale * gradient;  p *= 1 - learning_rate * weight_decay
//   m += (1 - beta1) * (g - m);     v = beta2 * v + (1 - beta2) * g^2
//   p -= learning_rate / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
// It is one pass: 16 bytes read and 12 written per f32 element, or 14 with a compute copy. The work is cut into slices of equal
// size across tensors.
// Throws Error when shapes, dtypes or devices do not fit, or when step < 1.
// Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
void adamw(std::span<const AdamWSpan> spans, const AdamWSettings& settings);

namespace cpu {
decltype(kernels::adamw) adamw;
}  // namespace cpu
namespace cuda {
decltype(kernels::adamw) adamw;
}  // namespace cuda

}  // namespace echo::kernels
