#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// Attention of one new position per sequence over the cached ones, for generation. Sequence b holds lengths[b] positions, the
// new one included (its key and value are in the cache already: kernels/decode/cache_append.h).
//   q, o: (B, H, Dh); k_cache, v_cache: (B, S, Hkv, Dh); all of one dtype (f32, bf16, f64), any strides except that the last
//   dimension has stride 1; Dh <= 256 on a GPU. lengths: (B) i32, contiguous, where the other tensors are: a step needs no
//   value from the host. probabilities: (B, H, S) contiguous, accumulator dtype; entries from lengths[b] on are left as they
//   are.
// Throws Error when shapes, dtypes, strides or devices do not fit, and on the CPU when a length does not (1 <= lengths[b] <=
// S); on a GPU lengths outside are taken for the nearest one inside.

// A leader's step: probabilities[b,h,s] = softmax over s < lengths[b] of scale * q[b,h] . k_cache[b,s,h']; o = probabilities
// v_cache. `probabilities` is undefined when nobody follows.
void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& lengths, double scale);

// A follower's step: o = probabilities v_cache with the leader's row; it has no keys.
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
