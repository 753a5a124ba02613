#include "nn/llama.h"

#include <algorithm>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "kernels/cast.h"
#include "kernels/decode/cache_append.h"
#include "nn/weight_names.h"
#include "tensor/allocator.h"

namespace echo {

Llama::Layer::Layer(const LlamaConfig& config, int64_t index, std::unique_ptr<Attention> layer_attention,
                    const WeightOptions& options)
    : attention(std::move(layer_attention)), mlp(config, index, options) {
  input_norm = add_parameter({{layer_weight(index, "input_layernorm"), config.hidden_size}}, 0, options);
  post_attention_norm = add_parameter({{layer_weight(index, "post_attention_layernorm"), config.hidden_size}}, 0, options);
  add_child(*attention);
  add_child(mlp);
}

Llama::Llama(const LlamaConfig& config, const WeightOptions& options)
    : Llama(config, LeaderMap::own(config.num_hidden_layers), options,
            [&](int64_t layer) { return std::make_unique<SelfAttention>(config, layer, /*has_followers=*/false, options); }) {}

Llama::Llama(const LlamaConfig& config, LeaderMap leader_map, const WeightOptions& options, const AttentionFactory& factory)
    : LanguageModel(config, std::move(leader_map)), rope_tables_(std::make_unique<RopeTableCache>(config, options.device)) {
  embedding_ = add_parameter({{std::string(kEmbeddingWeight), config.vocab_size}}, config.hidden_size, options);
  final_norm_ = add_parameter({{std::string(kFinalNormWeight), config.hidden_size}}, 0, options);
  head_ = config.tie_word_embeddings
              ? embedding_
              : add_parameter({{std::string(kHeadWeight), config.vocab_size}}, config.hidden_size, options);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.push_back(std::make_unique<Layer>(config, i, factory(i), options));
    add_child(*layers_.back());
  }
}

const Variable& Llama::norm_after(size_t layer) const {
  return layer + 1 < layers_.size() ? layers_[layer + 1]->input_norm : final_norm_;
}

Llama::Residual Llama::run_layer(size_t index, const Residual& residual, AttentionContext& context) const {
  const Layer& layer = *layers_[index];
  const double eps = config().rms_norm_eps;
  if (layer_hooks() != nullptr) layer_hooks()->before_layer(int64_t(index));
  const Variable attended = layer.attention->forward(residual.normed, context);
  const NormedSum middle = add_rms_norm(residual.x, attended, layer.post_attention_norm, eps);
  const NormedSum end = add_rms_norm(middle.sum, layer.mlp.forward(middle.normed), norm_after(index), eps);
  if (layer_hooks() != nullptr) layer_hooks()->after_layer(int64_t(index));
  return {end.sum, end.normed};
}

ForwardResult Llama::forward(const Tensor& ids, const ForwardOptions& options) const {
  ECHO_CHECK(ids.rank() == 2, "llama: ids are ", ids, ", expected (B, T)");
  const int64_t batch = ids.dim(0), tokens = ids.dim(1);
  if (options.cache != nullptr) {
    ECHO_CHECK(!options.recompute, "llama: a cache and recompute, expected one of them at most");
    options.cache->check_takes_prompts("llama", batch, tokens);
  }
  AttentionContext context;
  context.rope = rope_tables_->at_least(tokens, options.compute_dtype);
  context.first_key = options.first_key.to(device());
  context.detach_shared = options.detach_shared;
  context.cache = options.cache;
  context.on_attention = options.on_attention;

  const Variable embedded = embedding(embedding_, ids.to(device()).reshape({batch * tokens}), options.compute_dtype);
  Residual residual;
  residual.x = reshape(embedded, {batch, tokens, config().hidden_size});
  residual.normed = rms_norm(residual.x, layers_.front()->input_norm, config().rms_norm_eps);
  const auto wanted = [&](size_t layer) {
    return std::binary_search(options.wanted_outputs.begin(), options.wanted_outputs.end(), int64_t(layer));
  };
  ForwardResult result;
  if (options.recompute) {
    for (const auto& [first_layer, last_layer] : leader_map().closed_spans()) {
      const auto first = size_t(first_layer), last = size_t(last_layer);
      const Block span = [=, this](const std::vector<Variable>& inputs) {
        AttentionContext own = context;
        Residual inner{inputs[0], inputs[1]};
        std::vector<Variable> outputs;
        for (size_t i = first; i <= last; ++i) {
          inner = run_layer(i, inner, own);
          if (wanted(i) && i < last) outputs.push_back(inner.x);
        }
        outputs.push_back(inner.x);
        outputs.push_back(inner.normed);
        return outputs;
      };
      std::vector<Variable> outputs = with_recompute(span, {residual.x, residual.normed});
      residual = {outputs[outputs.size() - 2], outputs.back()};
      outputs.resize(outputs.size() - 2);
      for (Variable& output : outputs) result.layer_outputs.push_back(std::move(output));
      if (wanted(last)) result.layer_outputs.push_back(residual.x);
    }
  } else {
    for (size_t i = 0; i < layers_.size(); ++i) {
      residual = run_layer(i, residual, context);
      if (wanted(i)) result.layer_outputs.push_back(residual.x);
    }
  }
  if (options.cache != nullptr) options.cache->set_lengths(std::vector<int32_t>(size_t(batch), int32_t(tokens)));
  result.hidden = residual.normed;
  return result;
}

KvCache Llama::make_cache(int64_t batch, int64_t capacity, DType dtype) const {
  const MemoryLabel label("KV cache");
  KvCache cache;
  cache.capacity = capacity;
  cache.rope = rope_tables_->at_least(capacity, dtype);
  const Shape shape{batch, capacity, config().num_key_value_heads, config().head_dim};
  for (int64_t i = 0; i < config().num_hidden_layers; ++i) {
    KvCache::Layer layer;
    if (!leader_map().follows(i)) layer.k = Tensor::empty(shape, dtype, device());
    layer.v = Tensor::empty(shape, dtype, device());
    cache.layers.push_back(std::move(layer));
  }
  cache.lengths = Tensor::zeros({batch}, DType::i32, embedding_.data().device());
  return cache;
}

Tensor Llama::decode(const Tensor& ids, KvCache& cache, DType compute_dtype) const {
  const NoGrad no_grad;
  cache.count_position();
  kernels::extend_lengths(cache.lengths, cache.capacity);
  DecodeContext context;
  context.cache = &cache;
  Tensor residual = embedding(embedding_, ids.to(cache.lengths.device()), compute_dtype).data();  // (B, D)
  for (const auto& layer : layers_) {
    layer->attention->decode(residual, layer->input_norm.data(), context);
    layer->mlp.decode(residual, layer->post_attention_norm.data());
  }
  return rms_norm(Variable(residual), final_norm_, config().rms_norm_eps).data();
}

}  // namespace echo
