#pragma once

#include <span>

#include "tensor/tensor.h"

namespace echo::kernels {

// Attention of one new position per sequence over the cached ones, for generation. Sequence b holds lengths[b] positions, the new
// one included (its key and value are in the cache already).
//   q, o: (B, H, Dh); k_cache, v_cache: (B, S, Hkv, Dh), S >= lengths[b]; all of one dtype (f32, bf16, f64), any strides except that
//   the last dimension has stride 1. probabilities: (B, H, S) contiguous, accumulator dtype; entries from lengths[b] on are left as
//   they are. Throws Error when shapes, dtypes, strides, lengths (1 <= lengths[b] <= S) or devices do not fit.

// A leader's step: probabilities[b,h,s] = softmax over s < lengths[b] of scale * q[b,h] . k_cache[b,s,h']; o = probabilities v_cache.
void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      std::span<const int64_t> lengths, double scale);

// A follower's step: o = probabilities v_cache with the leader's row; it has no keys.
void shared_attention_decode(Tensor& o, const Tensor& probabilities, const Tensor& v_cache, std::span<const int64_t> lengths);

namespace cpu {

// Arguments as above, already checked.
void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      std::span<const int64_t> lengths, double scale);
void shared_attention_decode(Tensor& o, const Tensor& probabilities, const Tensor& v_cache, std::span<const int64_t> lengths);

}  // namespace cpu
}  // namespace echo::kernels
