#pragma once

#include <functional>

#include "nn/attention.h"
#include "nn/language_model.h"
#include "nn/mlp.h"
#include "nn/rope_table.h"

namespace echo {

// A Llama: token embedding, layers of attention and MLP around a residual stream, final norm, head. Weights are zero at first.
// Load them (nn/model_io.h) or call initialize().
// Source: Touvron et al. 2023, arXiv:2302.13971. Weight names and RoPE pairs are those of Hugging Face checkpoints.
class Llama : public LanguageModel {
 public:
  Llama(const LlamaConfig& config, const WeightOptions& options);

  ForwardResult forward(const Tensor& ids, const ForwardOptions& options) const override;
  const Variable& head_weight() const override { return head_; }
  std::vector<Parameter*> layer_parameters(int64_t layer) const override { return layers_[size_t(layer)]->parameters(); }
  KvCache make_cache(int64_t batch, int64_t capacity, DType dtype) const override;
  Tensor decode(const Tensor& ids, KvCache& cache, DType compute_dtype) const override;

 protected:
  using AttentionFactory = std::function<std::unique_ptr<Attention>(int64_t layer)>;
  // A model whose attention layers come from the factory, for SharedAttentionLlama.
  Llama(const LlamaConfig& config, LeaderMap leader_map, const WeightOptions& options, const AttentionFactory& factory);

 private:
  struct Layer : Module {
    Layer(const LlamaConfig& config, int64_t index, std::unique_ptr<Attention> layer_attention, const WeightOptions& options);
    Variable input_norm, post_attention_norm;
    std::unique_ptr<Attention> attention;
    Mlp mlp;
  };
  // The residual stream between two layers, and its norm, the input of the next layer.
  struct Residual {
    Variable x, normed;
  };

  Residual run_layer(size_t index, const Residual& residual, AttentionContext& context) const;
  const Variable& norm_after(size_t layer) const;

  Variable embedding_, final_norm_, head_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<RopeTableCache> rope_tables_;  // shared by all threads
};

}  // namespace echo
