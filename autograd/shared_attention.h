#pragma once

#include <memory>

#include "autograd/variable.h"
#include "kernels/attention/attention.h"
#include "kernels/rope.h"

namespace echo {

// The heads of one attention layer. Heads are grouped: query head h reads key and value head h / (heads / kv_heads).
struct HeadCounts {
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // Hkv, divides H
  int64_t head_dim = 0;  // Dh
};

// What the layers of a sharing block have in common. The leader's rotated queries and keys and the log-sum-exp of its score
// rows together determine the matrix of probabilities. During a backward pass it also holds what the followers leave for the
// leader. A layer that shares nothing is a block of one.
struct SharedProbabilities {
  HeadCounts heads;
  double scale = 0;     // 1 / sqrt(Dh)
  Tensor q;             // (B, T, H, Dh) rotated
  Tensor k;             // (B, T, Hkv, Dh) rotated
  Tensor lse;           // (B, H, T)
  Tensor first_key;     // (B, T) i32, or undefined
  bool detach = false;  // followers contribute nothing to the gradients of q and k

  Tensor delta;                               // (B, H, T); backward: sum over layers of rowsum(dO * O)
  std::vector<kernels::SharingLayer> layers;  // backward: dO and V of each follower
};

// A leader's output, and what its followers need. A follower has the leader's output as one of its inputs. So its backward
// function runs before the leader's, which finishes the gradients of q and k for the whole block (ARCHITECTURE.md).
struct AttentionBlock {
  Variable output;  // (B, T, H * Dh)
  std::shared_ptr<SharedProbabilities> shared;
};

// What an operation does with the memory of its input.
//   keep: leaves it unchanged.
//   overwrite: writes results into it. Afterwards nothing may read the input: neither the program, nor the backward function of
//   the
//     operation that made it (the backward function of linear() does not read its output).
enum class InputMemory { keep, overwrite };

// Rotates queries and keys and applies causal attention.
//   qkv: (B, T, (H + 2 Hkv) * Dh): queries, keys and values of one fused projection, not yet rotated. With
//     InputMemory::overwrite, queries and keys are rotated in place, which saves a copy.
//   first_key: undefined, or (B, T) i32 (see kernels/attention/attention.h).
//   detach_shared: followers contribute nothing to the gradients of q and k.
// The output has the dtype of qkv, a floating dtype. Throws Error when shapes, dtypes or devices do not fit.
AttentionBlock leader_attention(const Variable& qkv, InputMemory qkv_memory, const HeadCounts& heads,
                                const kernels::RopeTable& table, const Tensor& first_key = {}, bool detach_shared = false);

// Applies the leader's probabilities to this layer's values. v: (B, T, Hkv * Dh) -> (B, T, H * Dh), in the dtype and on the
// device of the leader's qkv. A block supports one backward pass, which uses up what the followers leave for the leader. Throws
// Error when shapes, dtypes or devices do not fit.
Variable follower_attention(const Variable& v, const AttentionBlock& block);

}  // namespace echo
