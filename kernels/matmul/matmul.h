#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

namespace echo::kernels {

enum class Transpose { no, yes };

// c = op(a) · op(b), or c += op(a) · op(b). op is the identity or the transpose.
//   op(a): (M, K), op(b): (K, N), c: (M, N). Rank 2, stride 1 in the last dimension, any row stride. c must not overlap a or b.
//   a, b: the same dtype: f32, bf16, or f64 on the CPU. c: that dtype, or f32 for bf16 operands. Sums are f32 (f64 for f64).
// Throws Error when ranks, extents, strides, dtypes or devices do not fit.
void matmul(Tensor& c, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            GradientMode mode = GradientMode::overwrite);

// Allows f32 products on a GPU to round their operands to TF32 (10 bits of precision), which is several times faster. Off by
// default.
void allow_tf32(bool allowed);

// Bytes of scratch memory for products on a GPU, kept from the first product on. cuBLAS recommends 32 MiB on Hopper. Split sums
// may use more.
inline constexpr int64_t kGpuMatmulWorkspace = int64_t{64} << 20;

}  // namespace echo::kernels
