#pragma once

#include "kernels/matmul/operands.h"

namespace echo::kernels::cuda {

// y = x W^T for few rows of x, the projections of a decoding step: W is read once, as fast as memory gives it.
//   x (a): (M, K), W (b): (N, K), both f32 or both bf16; y (c): (M, N) of that dtype, f32 also for bf16. Rows at any distance
//   that keeps those of x and W aligned to 16 bytes. Sums in f32, in an order that depends on M, N and K only.

// Whether small_matmul takes a product: M <= 16, a plain, b transposed, overwriting, K and the rows of a and b whole 16-byte
// vectors.
bool small_matmul_fits(const MatmulOperands& operands);
void small_matmul(const MatmulOperands& operands);

}  // namespace echo::kernels::cuda
