#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// y = silu(gate) * up, with silu(z) = z / (1 + e^-z). gate and up are the halves of each row of gate_up, the output of one
// fused projection.
//   gate_up: (..., 2F), y: (..., F), contiguous, of one floating dtype (on a GPU f32 or bf16). Computed in f32 (f64 for f64).
// Throws Error when shapes, dtypes or devices do not fit.
// Source: Shazeer 2020, arXiv:2002.05202.
void swiglu_forward(Tensor& y, const Tensor& gate_up);

// The gradient of swiglu_forward. d_gate_up: (..., 2F), overwritten. dy: (..., F). Throws as above.
void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up);

namespace cpu {
decltype(kernels::swiglu_forward) swiglu_forward;
decltype(kernels::swiglu_backward) swiglu_backward;
}  // namespace cpu
namespace cuda {
decltype(kernels::swiglu_forward) swiglu_forward;
decltype(kernels::swiglu_backward) swiglu_backward;
}  // namespace cuda

}  // namespace echo::kernels
