#pragma once

#include "tensor/tensor.h"

// Element-wise operations. Unless stated otherwise, all tensors of a call have the same shape, floating dtype and device, and
// are contiguous. The output may be one of the inputs. bf16 is computed in f32 and rounded once. On a GPU: f32 and bf16. Every
// function throws Error when shapes, dtypes or devices do not fit.
namespace echo::kernels {

void add(Tensor& y, const Tensor& a, const Tensor& b);       // y = a + b
void subtract(Tensor& y, const Tensor& a, const Tensor& b);  // y = a - b
void multiply(Tensor& y, const Tensor& a, const Tensor& b);  // y = a * b
void scale(Tensor& y, const Tensor& x, double factor);       // y = factor * x
void square(Tensor& y, const Tensor& x);                     // y = x^2

// y += factor * x. The dtypes may differ, for example to add a bf16 gradient to an f32 sum.
void add_scaled(Tensor& y, const Tensor& x, double factor);

// y = x + bias in every row. x, y: (..., D); bias: (D).
void add_bias(Tensor& y, const Tensor& x, const Tensor& bias);

void tanh_forward(Tensor& y, const Tensor& x);                      // y = tanh(x)
void tanh_backward(Tensor& dx, const Tensor& dy, const Tensor& y);  // dx = dy * (1 - y^2)

// Arguments as above, already checked.
namespace cpu {
decltype(kernels::add) add;
decltype(kernels::subtract) subtract;
decltype(kernels::multiply) multiply;
decltype(kernels::scale) scale;
decltype(kernels::square) square;
decltype(kernels::add_scaled) add_scaled;
decltype(kernels::add_bias) add_bias;
decltype(kernels::tanh_forward) tanh_forward;
decltype(kernels::tanh_backward) tanh_backward;
}  // namespace cpu
namespace cuda {
decltype(kernels::add) add;
decltype(kernels::subtract) subtract;
decltype(kernels::multiply) multiply;
decltype(kernels::scale) scale;
decltype(kernels::square) square;
decltype(kernels::add_scaled) add_scaled;
decltype(kernels::add_bias) add_bias;
decltype(kernels::tanh_forward) tanh_forward;
decltype(kernels::tanh_backward) tanh_backward;
}  // namespace cuda

}  // namespace echo::kernels
