#pragma once

#include "kernels/matmul/operands.h"

namespace echo::kernels::cuda {

// y = x W^T for few rows of x: the projections of a generation step. W is read once, at the speed of memory.
//   x (a): (M, K), W (b): (N, K), both f32 or both bf16. y (c): (M, N) of that dtype, or f32 for bf16 operands. Rows may have
//   any stride that keeps rows of x and W aligned to 16 bytes. Sums are f32, in an order that depends only on M, N and K.

// True when small_matmul supports a product: on a GPU, M <= 16, a not transposed, b transposed, not accumulating, and K and the
// row strides of a and b multiples of 16 bytes.
bool small_matmul_fits(const MatmulOperands& operands);
void small_matmul(const MatmulOperands& operands);  // throws Error unless small_matmul_fits(operands)

}  // namespace echo::kernels::cuda
