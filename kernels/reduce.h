#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

// Contiguous floating tensors of any shape; on a GPU f32 and bf16.
namespace echo::kernels {

// Over all elements, in f64 whatever the dtype; 0 for an empty tensor. On a GPU the host waits for the result.
double sum(const Tensor& x);

// y[j] = sum over rows of x[row, j], or added to y. x: (..., D); y: (D) of x's dtype, or f32 where x is bf16.
// Sums in f32 (f64 for f64). Throws Error when shapes or dtypes do not fit.
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
