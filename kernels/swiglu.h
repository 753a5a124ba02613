#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// y = silu(gate) * up with silu(z) = z / (1 + e^-z); gate and up are the halves of each row of gate_up (one fused projection).
//   gate_up: (..., 2F), y: (..., F), contiguous, the same floating dtype; computed in f32 (f64 for f64).
// Source: Shazeer 2020, arXiv:2002.05202.
void swiglu_forward(Tensor& y, const Tensor& gate_up);

// d_gate_up: (..., 2F), overwritten.
void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up);

namespace cpu {
void swiglu_forward(Tensor& y, const Tensor& gate_up);
void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up);
}  // namespace cpu
namespace cuda {
void swiglu_forward(Tensor& y, const Tensor& gate_up);
void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up);
}  // namespace cuda

}  // namespace echo::kernels
