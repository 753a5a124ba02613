#pragma once

#include "kernels/rope.h"

namespace echo::kernels {

// The projections of a generation step, with one new position per sequence, fused with the operations before and after each. On
// a GPU each is one kernel for up to 16 sequences in bf16. Otherwise the operations run one after another.
//   x: (B, D) contiguous, the residual stream. Weights have the layout of nn.Linear (one row per output). lengths: (B) i32,
//   contiguous. All other tensors have one dtype: f32, bf16, or f64 on the CPU.
// Throws Error when shapes, dtypes or devices do not fit.

// RMSNorm of the residual stream, the input of a projection (kernels/rms_norm.h).
struct NormedRows {
  Tensor residual, weight;  // (B, D), (D)
  double eps = 0;
};

// For a layer with keys. projected: (B, (H + 2 Hkv) Dh), overwritten: its first H Dh columns are the rotated queries, the
// others are unspecified. The rotated keys and the values are written to position lengths[b] - 1 of the caches (B, S, Hkv, Dh)
// (kernels/decode/cache_append.h).
// weight: ((H + 2 Hkv) Dh, D), rows of queries first, then keys, then values.
void project_heads(Tensor& projected, Tensor& k_cache, Tensor& v_cache, const NormedRows& x, const Tensor& weight,
                   const RopeTable& table, const Tensor& lengths);

// For a follower: weight (Hkv Dh, D). The values are written to position lengths[b] - 1 of v_cache.
void project_values(Tensor& v_cache, const NormedRows& x, const Tensor& weight, const Tensor& lengths);

// y = silu(gate) * up, (B, F). gate and up are the halves of RMSNorm(x) weight^T, with weight (2F, D).
void project_gated(Tensor& y, const NormedRows& x, const Tensor& weight);

// x += y W^T. x: (B, D), y: (B, K), W: (D, K).
void project_onto(Tensor& x, const Tensor& y, const Tensor& weight);

// Arguments as above, already checked. `one_by_one` runs the operations separately, on any device. `cuda` uses it when the
// fused kernel does not support the arguments.
namespace one_by_one {
decltype(kernels::project_heads) project_heads;
decltype(kernels::project_values) project_values;
decltype(kernels::project_gated) project_gated;
decltype(kernels::project_onto) project_onto;
}  // namespace one_by_one
namespace cpu {
using namespace one_by_one;
}  // namespace cpu
namespace cuda {
decltype(kernels::project_heads) project_heads;
decltype(kernels::project_values) project_values;
decltype(kernels::project_gated) project_gated;
decltype(kernels::project_onto) project_onto;
}  // namespace cuda

}  // namespace echo::kernels
