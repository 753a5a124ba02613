#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// Attention for generation: one new position per sequence attends to the cached positions. Sequence b has lengths[b] positions,
// including the new one, whose key and value are already in the cache (kernels/decode/cache_append.h).
//   q, o: (B, H, Dh). k_cache, v_cache: (B, S, Hkv, Dh). All have one dtype (f32, bf16 or f64; on a GPU f32 or bf16). Strides
//   are arbitrary, except that the last dimension has stride 1. Dh <= 256 on a GPU.
//   lengths: (B) i32, contiguous, on the same device, so that a step needs no value from the host.
//   probabilities: (B, H, S), contiguous, accumulator dtype. Entries from lengths[b] on are not written.
// Throws Error when shapes, dtypes, strides or devices do not fit. A length outside 1 <= lengths[b] <= S throws Error on the
// CPU, and is clamped to that range on a GPU.

// A leader's step: probabilities[b,h,s] = softmax over s < lengths[b] of scale * q[b,h] . k_cache[b,s,h'], with h' = h / (H /
// Hkv), and o = probabilities v_cache. `probabilities` is undefined when the layer has no followers.
void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& lengths, double scale);

// A follower's step: o = probabilities v_cache, with the leader's probabilities. A follower has no keys.
void shared_attention_decode(Tensor& o, const Tensor& probabilities, const Tensor& v_cache, const Tensor& lengths);

// Arguments as above, already checked.
namespace cpu {
decltype(kernels::attention_decode) attention_decode;
decltype(kernels::shared_attention_decode) shared_attention_decode;
}  // namespace cpu
namespace cuda {
decltype(kernels::attention_decode) attention_decode;
decltype(kernels::shared_attention_decode) shared_attention_decode;
}  // namespace cuda

}  // namespace echo::kernels
