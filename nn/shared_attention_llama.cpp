#include "nn/shared_attention_llama.h"

#include "autograd/ops.h"
#include "kernels/decode/attention.h"
#include "nn/weight_names.h"

namespace echo {

FollowerAttention::FollowerAttention(const LlamaConfig& config, int64_t layer, int64_t leader, const WeightOptions& options)
    : heads_{config.num_attention_heads, config.num_key_value_heads, config.head_dim}, layer_(layer), leader_(leader) {
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

void FollowerAttention::decode(const kernels::NormedRows& x, DecodeContext& context) const {
  const auto [H, Hkv, Dh] = heads_;
  const int64_t batch = x.x.dim(0);
  Tensor& cache = context.cache->layers[size_t(layer_)].v;
  kernels::project_values(cache, x, value_.data_as(x.x.dtype()), context.cache->lengths);
  Tensor o = Tensor::empty({batch, H, Dh}, x.x.dtype(), x.x.device());
  kernels::shared_attention_decode(o, context.probabilities.at(leader_), cache, context.cache->lengths);
  Tensor stream = x.x;
  kernels::project_onto(stream, o.reshape({batch, H * Dh}), output_.data_as(x.x.dtype()));
}

SharedAttentionLlama::SharedAttentionLlama(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options)
    : Llama(config, leader_map, options, [&](int64_t layer) -> std::unique_ptr<Attention> {
        if (leader_map.follows(layer))
          return std::make_unique<FollowerAttention>(config, layer, leader_map.leader(layer), options);
        return std::make_unique<SelfAttention>(config, layer, !leader_map.followers_of(layer).empty(), options);
      }) {}

}  // namespace echo
