#pragma once

#include "kernels/rope.h"

namespace echo::kernels {

// The projections of a generation step, one new position a sequence, with what stands before and after each: on a GPU one
// kernel each for up to 16 sequences in bf16, else the operations one after another.
//   x: (B, D) contiguous, the residual stream; weights: rows as nn.Linear keeps them; all of one dtype (f32, bf16, f64),
//   lengths: (B) i32.
// Throws Error when shapes, dtypes or devices do not fit.

// RMSNorm of the residual stream, which a projection reads (kernels/rms_norm.h).
struct NormedRows {
  Tensor residual, weight;  // (B, D), (D)
  double eps = 0;
};

// A layer with keys. projected: (B, (H + 2 Hkv) Dh), overwritten: its first H Dh columns become the turned queries, the others
// may be anything. The turned keys and the values go to position lengths[b] - 1 of the caches, (B, S, Hkv, Dh)
// (kernels/decode/cache_append.h).
// weight: ((H + 2 Hkv) Dh, D), queries first, then keys, then values.
void project_heads(Tensor& projected, Tensor& k_cache, Tensor& v_cache, const NormedRows& x, const Tensor& weight,
                   const RopeTable& table, const Tensor& lengths);

// A follower: weight (Hkv Dh, D).
void project_values(Tensor& v_cache, const NormedRows& x, const Tensor& weight, const Tensor& lengths);

// y = silu(gate) * up, (B, F), with gate and up the halves of weight (2F, D) times RMSNorm(x).
void project_gated(Tensor& y, const NormedRows& x, const Tensor& weight);

// x += y W^T, y: (B, K), W: (D, K).
void project_onto(Tensor& x, const Tensor& y, const Tensor& weight);

// Arguments as above, already checked. `one_by_one` works on any device. `cuda` does too where one kernel does not fit.
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
