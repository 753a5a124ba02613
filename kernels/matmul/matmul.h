#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

namespace echo::kernels {

enum class Transpose { no, yes };

// c = op(a) · op(b), or c += op(a) · op(b), with op the identity or the transpose.
//   op(a): (M, K), op(b): (K, N), c: (M, N). Rank 2, the last dimension with stride 1, rows at any distance; c may not overlap
//   a or b.
//   a, b: the same dtype, f32, bf16 or f64. c: that dtype; f32 also for bf16 operands. Sums in f32 (f64 for f64).
// Throws Error when ranks, inner or outer dimensions, dtypes or devices do not fit.
void matmul(Tensor& c, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            GradientMode mode = GradientMode::overwrite);

// Whether f32 products on a GPU may round their operands to TF32 (10 bits of precision), which is several times faster. Off at
// first.
void allow_tf32(bool allowed);

// Bytes that products on a GPU keep as scratch from the first one on: cuBLAS recommends 32 MiB on Hopper; split sums may use
// more.
inline constexpr int64_t kGpuMatmulWorkspace = int64_t{64} << 20;

}  // namespace echo::kernels
