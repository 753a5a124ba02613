#pragma once

#include <functional>

#include "nn/attention.h"
#include "nn/leader_map.h"
#include "nn/mlp.h"

namespace echo {

struct ForwardOptions {
  DType compute_dtype = DType::f32;     // of activations
  std::vector<int64_t> wanted_outputs;  // layers whose output (after the MLP's residual) is asked for, increasing
  Tensor first_key;                     // (B, T) i32 or undefined: attention does not cross document borders
  bool detach_shared = false;           // gradients do not flow through a shared matrix to its leader
  bool recompute = false;               // keep activations only at the ends of sharing blocks, recompute the rest
  AttentionObserver on_attention;       // is shown every matrix of probabilities (again when a layer is recomputed)
  KvCache* cache = nullptr;             // filled with this pass's keys and values (no gradient, no recomputation)
};

struct ForwardResult {
  Variable hidden;                      // (B, T, D): output of the final norm, what the head multiplies
  std::vector<Variable> layer_outputs;  // (B, T, D) each, in the order of wanted_outputs
};

// A Llama: token embedding, layers of attention and MLP around a residual stream, final norm, head. Weights start as zeros:
// load them (nn/model_io.h) or initialize() them.
// Source: Touvron et al. 2023, arXiv:2302.13971; weight names and RoPE pairing are those of Hugging Face checkpoints.
class Llama : public Module {
 public:
  Llama(const LlamaConfig& config, const WeightOptions& options);

  const LlamaConfig& config() const { return config_; }
  const LeaderMap& leader_map() const { return leader_map_; }
  Device device() const { return embedding_.data().device(); }  // where the weights are, and so where it computes

  // ids: (B, T) i32, here or there.
  ForwardResult forward(const Tensor& ids, const ForwardOptions& options) const;
  const Variable& head_weight() const { return head_; }  // (V, D); the embedding's own in a tied model
  // hidden (..., D) -> (..., V)
  Tensor logits(const Tensor& hidden) const;

  // dtype: the compute dtype of the steps.
  KvCache make_cache(int64_t batch, int64_t capacity, DType dtype) const;
  // The next position of each sequence, which may be at different ones: ids (B) i32 -> hidden (B, D) after the final norm.
  // Extends the cache by one. What is done on a device depends on the host by `ids` alone.
  Tensor decode(const Tensor& ids, KvCache& cache, DType compute_dtype) const;

 protected:
  using AttentionFactory = std::function<std::unique_ptr<Attention>(int64_t layer)>;
  // A model whose attention layers the factory makes: how SharedAttentionLlama differs.
  Llama(const LlamaConfig& config, LeaderMap leader_map, const WeightOptions& options, const AttentionFactory& factory);

 private:
  struct Layer : Module {
    Layer(const LlamaConfig& config, int64_t index, std::unique_ptr<Attention> layer_attention, const WeightOptions& options);
    Variable input_norm, post_attention_norm;
    std::unique_ptr<Attention> attention;
    Mlp mlp;
  };
  // The residual stream between two layers, and its norm for the layer that follows.
  struct Residual {
    Variable x, normed;
  };

  Residual run_layer(size_t index, const Residual& residual, AttentionContext& context) const;
  const Variable& norm_after(size_t layer) const;
  kernels::RopeTable rope_table(int64_t positions, DType compute_dtype) const;

  LlamaConfig config_;
  LeaderMap leader_map_;
  Variable embedding_, final_norm_, head_;
  std::vector<std::unique_ptr<Layer>> layers_;
  mutable kernels::RopeTable rope_;  // as long as the longest sequence seen
};

}  // namespace echo
