#include "nn/attention.h"

#include <cmath>

#include "autograd/ops.h"
#include "kernels/decode/attention.h"
#include "kernels/decode/projections.h"
#include "nn/weight_names.h"

namespace echo {

SelfAttention::SelfAttention(const LlamaConfig& config, int64_t layer, bool has_followers, const WeightOptions& options)
    : heads_{config.num_attention_heads, config.num_key_value_heads, config.head_dim},
      layer_(layer),
      eps_(config.rms_norm_eps),
      has_followers_(has_followers) {
  const int64_t query = heads_.heads * heads_.head_dim, key_value = heads_.kv_heads * heads_.head_dim;
  qkv_ = add_parameter({{layer_weight(layer, "self_attn.q_proj"), query},
                        {layer_weight(layer, "self_attn.k_proj"), key_value},
                        {layer_weight(layer, "self_attn.v_proj"), key_value}},
                       config.hidden_size, options);
  output_ = add_parameter({{layer_weight(layer, "self_attn.o_proj"), config.hidden_size}}, query, options);
}

Variable SelfAttention::forward(const Variable& x, AttentionContext& context) const {
  const Variable qkv = linear(x, qkv_);  // (B, T, (H + 2 Hkv) * Dh)
  // Only this function reads the projection's output, whether recorded or not. But an observer may keep queries and keys. Then
  // they are copied, so that the values can be freed.
  const InputMemory memory = context.on_attention ? InputMemory::keep : InputMemory::overwrite;
  const AttentionBlock block = leader_attention(qkv, memory, heads_, context.rope, context.first_key, context.detach_shared);
  if (has_followers_) context.blocks[layer_] = block;
  if (context.on_attention) context.on_attention(layer_, *block.shared);
  if (context.cache != nullptr) {
    const int64_t batch = x.shape()[0], tokens = x.shape()[1];
    KvCache::Layer& cache = context.cache->layers[size_t(layer_)];
    const Tensor v = qkv.data()
                         .reshape({batch, tokens, heads_.heads + 2 * heads_.kv_heads, heads_.head_dim})
                         .narrow(2, heads_.heads + heads_.kv_heads, heads_.kv_heads);
    cache.k.narrow(1, 0, tokens).copy_from(block.shared->k);
    cache.v.narrow(1, 0, tokens).copy_from(v);
  }
  return linear(block.output, output_);
}

void SelfAttention::decode(Tensor& residual, const Tensor& norm, DecodeContext& context) const {
  const auto [H, Hkv, Dh] = heads_;
  const int64_t batch = residual.dim(0);
  const DType dtype = residual.dtype();
  const Device device = residual.device();
  KvCache::Layer& cache = context.cache->layers[size_t(layer_)];
  Tensor projected = Tensor::empty({batch, (H + 2 * Hkv) * Dh}, dtype, device);
  kernels::project_heads(projected, cache.k, cache.v, {residual, norm, eps_}, qkv_.data_as(dtype), context.cache->rope,
                         context.cache->lengths);
  const Tensor q = projected.reshape({batch, H + 2 * Hkv, Dh}).narrow(1, 0, H);
  Tensor o = Tensor::empty({batch, H, Dh}, dtype, device), probabilities;
  if (has_followers_) {
    probabilities = Tensor::empty({batch, H, context.cache->capacity}, accumulator_dtype(dtype), device);
    context.probabilities[layer_] = probabilities;
  }
  kernels::attention_decode(o, probabilities, q, cache.k, cache.v, context.cache->lengths, 1.0 / std::sqrt(double(Dh)));
  kernels::project_onto(residual, o.reshape({batch, H * Dh}), output_.data_as(dtype));
}

}  // namespace echo
