#pragma once

#include <memory>

#include "autograd/variable.h"
#include "kernels/attention/attention.h"
#include "kernels/rope.h"

namespace echo {

// The heads of one attention layer; grouped: query head h reads key and value head h / (heads / kv_heads).
struct HeadCounts {
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // Hkv, divides H
  int64_t head_dim = 0;  // Dh
};

// What the layers of a sharing block have in common: the leader's rotated queries and keys and the log-sum-exp of its score
// rows, which together are the matrix of probabilities; and, during a backward pass, what the followers leave for the leader.
// An unshared layer is a block of one.
struct SharedProbabilities {
  HeadCounts heads;
  double scale = 0;     // 1 / sqrt(Dh)
  Tensor q;             // (B, T, H, Dh) rotated
  Tensor k;             // (B, T, Hkv, Dh) rotated
  Tensor lse;           // (B, H, T)
  Tensor first_key;     // (B, T) i32, or undefined
  bool detach = false;  // followers leave no gradient for q and k

  Tensor delta;                               // (B, H, T); backward: sum over layers of rowsum(dO * O)
  std::vector<kernels::SharingLayer> layers;  // backward: dO and V of each follower
};

// A leader's output, and what its followers need. A follower names the leader's output as one of its inputs. So its backward
// function runs before the leader's, which finishes the gradient of q and k for all of them (ARCHITECTURE.md).
struct AttentionBlock {
  Variable output;  // (B, T, H * Dh)
  std::shared_ptr<SharedProbabilities> shared;
};

// What an operation does with the memory of its input.
//   keep: leaves it as it is.
//   overwrite: puts results there. The caller hands over a tensor that nobody reads afterwards, neither the program nor the
//     backward function of the operation that made it (that of linear() does not read its output).
enum class InputMemory { keep, overwrite };

// Rotates queries and keys and applies causal attention.
//   qkv: (B, T, (H + 2 Hkv) * Dh): queries, keys and values of one fused projection, not yet rotated. With
//   InputMemory::overwrite queries and keys are rotated where they are, which saves a copy of them.
//   first_key: undefined, or (B, T) i32 (see kernels/attention/attention.h). detach_shared: followers contribute nothing to q
//   and k.
// Throws Error when shapes, dtypes or devices do not fit.
AttentionBlock leader_attention(const Variable& qkv, InputMemory qkv_memory, const HeadCounts& heads,
                                const kernels::RopeTable& table, const Tensor& first_key = {}, bool detach_shared = false);

// The leader's probabilities applied to this layer's values. v: (B, T, Hkv * Dh) -> (B, T, H * Dh), in the dtype of the
// leader's qkv and on its device.
// A block takes part in one backward pass: what a follower leaves for the leader is used up by it. Throws Error when shapes,
// dtypes or devices do not fit.
Variable follower_attention(const Variable& v, const AttentionBlock& block);

}  // namespace echo
