#include "nn/shared_attention_llama.h"

#include "autograd/ops.h"
#include "kernels/decode/attention.h"
#include "kernels/decode/projections.h"
#include "nn/weight_names.h"

namespace echo {

FollowerAttention::FollowerAttention(const LlamaConfig& config, int64_t layer, int64_t leader, const WeightOptions& options)
    : heads_{config.num_attention_heads, config.num_key_value_heads, config.head_dim},
      layer_(layer),
      leader_(leader),
      eps_(config.rms_norm_eps) {
  value_ = add_parameter({{layer_weight(layer, "self_attn.v_proj"), heads_.kv_heads * heads_.head_dim}}, config.hidden_size,
                         options);
  output_ =
      add_parameter({{layer_weight(layer, "self_attn.o_proj"), config.hidden_size}}, heads_.heads * heads_.head_dim, options);
}

Variable FollowerAttention::forward(const Variable& x, AttentionContext& context) const {
  const Variable v = linear(x, value_);  // (B, T, Hkv * Dh)
  if (context.cache != nullptr) {
    const int64_t batch = x.shape()[0], tokens = x.shape()[1];
    context.cache->layers[size_t(layer_)]
        .v.narrow(1, 0, tokens)
        .copy_from(v.data().reshape({batch, tokens, heads_.kv_heads, heads_.head_dim}));
  }
  return linear(follower_attention(v, context.blocks.at(leader_)), output_);
}

void FollowerAttention::decode(Tensor& residual, const Tensor& norm, DecodeContext& context) const {
  const auto [H, Hkv, Dh] = heads_;
  const int64_t batch = residual.dim(0);
  const DType dtype = residual.dtype();
  Tensor& cache = context.cache->layers[size_t(layer_)].v;
  kernels::project_values(cache, {residual, norm, eps_}, value_.data_as(dtype), context.cache->lengths);
  Tensor o = Tensor::empty({batch, H, Dh}, dtype, residual.device());
  kernels::shared_attention_decode(o, context.probabilities.at(leader_), cache, context.cache->lengths);
  kernels::project_onto(residual, o.reshape({batch, H * Dh}), output_.data_as(dtype));
}

SharedAttentionLlama::SharedAttentionLlama(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options)
    : Llama(config, leader_map, options, [&](int64_t layer) -> std::unique_ptr<Attention> {
        if (leader_map.follows(layer))
          return std::make_unique<FollowerAttention>(config, layer, leader_map.leader(layer), options);
        return std::make_unique<SelfAttention>(config, layer, !leader_map.followers_of(layer).empty(), options);
      }) {}

}  // namespace echo
