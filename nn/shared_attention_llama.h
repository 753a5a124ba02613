#pragma once

#include "nn/llama.h"

namespace echo {

// A layer that uses an earlier layer's matrix: it has only the projections v and o.
class FollowerAttention : public Attention {
 public:
  FollowerAttention(const LlamaConfig& config, int64_t layer, int64_t leader, const WeightOptions& options);
  Variable forward(const Variable& x, AttentionContext& context) const override;
  void decode(Tensor& residual, const Tensor& norm, DecodeContext& context) const override;

 private:
  HeadCounts heads_;
  int64_t layer_, leader_;
  double eps_;  // of the norm before the attention
  Variable value_, output_;
};

// A Llama whose followers use their leader's attention matrix. If the map has no followers, it is an ordinary Llama.
// Source: Rajabzadeh et al. 2024, arXiv:2409.14595.
class SharedAttentionLlama : public Llama {
 public:
  SharedAttentionLlama(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options);
};

}  // namespace echo
