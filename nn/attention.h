#pragma once

#include <functional>
#include <map>

#include "autograd/shared_attention.h"
#include "kernels/decode/projections.h"
#include "nn/kv_cache.h"
#include "nn/model_config.h"
#include "nn/module.h"

namespace echo {

// Gets each matrix of probabilities that a forward pass computes, once per layer that has one of its own, in order of the
// layers. The tensors may be kept: they belong to this pass.
using AttentionObserver = std::function<void(int64_t layer, const SharedProbabilities& probabilities)>;

// What the attention layers of one forward pass hand to each other.
struct AttentionContext {
  kernels::RopeTable rope;
  Tensor first_key;  // (B, T) i32 or undefined, see kernels/attention/attention.h
  bool detach_shared = false;
  std::map<int64_t, AttentionBlock> blocks;  // by leader; only leaders that have followers are kept
  KvCache* cache = nullptr;                  // when set, keys and values of this pass are stored from position 0
  AttentionObserver on_attention;            // may be empty
};

// One decoding step: a single new position per sequence.
struct DecodeContext {
  KvCache* cache = nullptr;                 // its lengths count the new position already
  std::map<int64_t, Tensor> probabilities;  // by leader: (B, H, capacity), accumulator dtype
};

// The attention of one layer, between two residual additions.
class Attention : public Module {
 public:
  // x: (B, T, D) normed -> (B, T, D).
  virtual Variable forward(const Variable& x, AttentionContext& context) const = 0;
  // Adds the attention of RMSNorm(x) to x, the residual stream at the new position of each sequence: (B, D). No gradient.
  virtual void decode(const kernels::NormedRows& x, DecodeContext& context) const = 0;
};

// A layer that computes its own matrix: projections q, k, v (fused) and o.
class SelfAttention : public Attention {
 public:
  // `has_followers`: its probabilities are kept for later layers.
  SelfAttention(const LlamaConfig& config, int64_t layer, bool has_followers, const WeightOptions& options);
  Variable forward(const Variable& x, AttentionContext& context) const override;
  void decode(const kernels::NormedRows& x, DecodeContext& context) const override;

 private:
  HeadCounts heads_;
  int64_t layer_;
  bool has_followers_;
  Variable qkv_, output_;
};

}  // namespace echo
