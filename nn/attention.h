#pragma once

#include <map>

#include "nn/attention_observer.h"
#include "nn/kv_cache.h"
#include "nn/model_config.h"
#include "nn/module.h"

namespace echo {

// Data that the attention layers of one forward pass give to each other.
struct AttentionContext {
  kernels::RopeTable rope;
  Tensor first_key;  // (B, T) i32 or undefined, see kernels/attention/attention.h
  bool detach_shared = false;
  std::map<int64_t, AttentionBlock> blocks;  // by leader; only for leaders with followers
  KvCache* cache = nullptr;                  // when set, keys and values of this pass are stored from position 0
  AttentionObserver on_attention;            // may be empty
};

// The state of one decoding step: one new position per sequence.
struct DecodeContext {
  KvCache* cache = nullptr;                 // its lengths already include the new position
  std::map<int64_t, Tensor> probabilities;  // by leader: (B, H, capacity), accumulator dtype
};

// The attention part of one layer, between two residual additions.
class Attention : public Module {
 public:
  // x: (B, T, D) after the norm, in the compute dtype -> (B, T, D), same dtype. Throws Error when shapes, dtypes or devices do
  // not fit.
  virtual Variable forward(const Variable& x, AttentionContext& context) const = 0;
  // residual += attention(RMSNorm(residual)) at the new position of each sequence. residual: (B, D), contiguous, in the compute
  // dtype. norm: (D), the weight of the RMSNorm. Records nothing.
  virtual void decode(Tensor& residual, const Tensor& norm, DecodeContext& context) const = 0;
};

// A layer that computes its own attention matrix: projections q, k, v (fused) and o.
class SelfAttention : public Attention {
 public:
  // `has_followers`: the layer's probabilities are kept for later layers.
  SelfAttention(const LlamaConfig& config, int64_t layer, bool has_followers, const WeightOptions& options);
  Variable forward(const Variable& x, AttentionContext& context) const override;
  void decode(Tensor& residual, const Tensor& norm, DecodeContext& context) const override;

 private:
  HeadCounts heads_;
  int64_t layer_;
  double eps_;  // of the norm before the attention
  bool has_followers_;
  Variable qkv_, output_;
};

}  // namespace echo
