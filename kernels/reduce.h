#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

// Contiguous floating tensors of any shape; on a GPU f32 and bf16.
namespace echo::kernels {

// The sum of all elements, computed in f64 for every dtype. 0 for an empty tensor. Waits for the GPU. Throws Error when x is
// undefined or not contiguous.
double sum(const Tensor& x);

// y[j] = sum over rows of x[row, j], or y[j] += that sum. x: (..., D). y: (D), in x's dtype or its accumulator dtype. Sums are
// f32 (f64 for f64). Throws Error when shapes, dtypes or devices do not fit.
void sum_rows(Tensor& y, const Tensor& x, GradientMode mode = GradientMode::overwrite);

// Arguments as above, already checked.
namespace cpu {
decltype(kernels::sum) sum;
decltype(kernels::sum_rows) sum_rows;
}  // namespace cpu
namespace cuda {
decltype(kernels::sum) sum;
decltype(kernels::sum_rows) sum_rows;
}  // namespace cuda

}  // namespace echo::kernels
