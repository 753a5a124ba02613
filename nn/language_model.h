#pragma once

#include <vector>

#include "nn/attention_observer.h"
#include "nn/kv_cache.h"
#include "nn/layer_hooks.h"
#include "nn/leader_map.h"
#include "nn/model_config.h"
#include "nn/module.h"

namespace echo {

struct ForwardOptions {
  DType compute_dtype = DType::f32;     // of activations: f32, bf16 or f64
  std::vector<int64_t> wanted_outputs;  // layers whose output (after the MLP's residual) is requested, increasing
  Tensor first_key;                     // (B, T) i32 or undefined: attention does not cross document borders
  bool detach_shared = false;           // gradients do not flow through a shared matrix to its leader
  bool recompute = false;               // keep activations only at the ends of sharing blocks, recompute the rest
  AttentionObserver on_attention;       // is shown every matrix of probabilities (again when a layer is recomputed)
  // A cache from make_cache() with nothing in it and room for T positions of B sequences. It is filled with this pass's keys
  // and values, without gradients. Not together with recompute.
  KvCache* cache = nullptr;
};

struct ForwardResult {
  Variable hidden;                      // (B, T, D): output of the final norm, the input of the head
  std::vector<Variable> layer_outputs;  // (B, T, D) each, in the order of wanted_outputs
};

// A causal language model: token ids in, hidden states and logits out. Training, evaluation, generation and analysis use models
// only through this interface, and get them from nn/model_io.h. nn/model_families.h says how to add one.
//
// Threads: on the CPU, several threads may call forward(), logits() and decode() of one model at the same time under NoGrad,
// each decode() with its own cache. Recorded passes count the uses of parameters, so they must run one after another. So must
// all work on a GPU.
class LanguageModel : public Module {
 public:
  const LlamaConfig& config() const { return config_; }
  const LeaderMap& leader_map() const { return leader_map_; }
  Device device() const { return head_weight().data().device(); }  // the device of the weights, where the model computes

  // One pass over whole sequences. ids: (B, T) i32 on any device, each from 0 to vocab_size - 1; T may exceed
  // max_position_embeddings. Throws Error when ids, first_key or the cache do not fit or the cache is not empty, (device) when
  // memory runs out.
  virtual ForwardResult forward(const Tensor& ids, const ForwardOptions& options) const = 0;
  // The parameters of one layer that forward() uses between LayerHooks::before_layer() and after_layer().
  virtual std::vector<Parameter*> layer_parameters(int64_t layer) const = 0;
  // `hooks` must outlive its use here. nullptr: none.
  void set_layer_hooks(LayerHooks* hooks) { layer_hooks_ = hooks; }
  virtual const Variable& head_weight() const = 0;  // (V, D); the embedding itself in a tied model
  // hidden: (..., D) -> logits (..., V), in the dtype of `hidden`. Records nothing.
  Tensor logits(const Tensor& hidden) const;

  // An empty cache for `batch` sequences of at most `capacity` positions. dtype: the compute dtype of the steps.
  virtual KvCache make_cache(int64_t batch, int64_t capacity, DType dtype) const = 0;
  // Computes the next position of each sequence; sequences may be at different positions. ids (B) i32 -> hidden (B, D) after
  // the final norm. Adds one position to the cache. Throws Error when the cache is full. Records nothing. The device work
  // depends on the host only through `ids`, so that the step can be recorded (nn/decode_step.h).
  virtual Tensor decode(const Tensor& ids, KvCache& cache, DType compute_dtype) const = 0;

 protected:
  // Throws Error when the map has another number of layers.
  LanguageModel(const LlamaConfig& config, LeaderMap leader_map);
  LayerHooks* layer_hooks() const { return layer_hooks_; }

 private:
  LlamaConfig config_;
  LeaderMap leader_map_;
  LayerHooks* layer_hooks_ = nullptr;
};

}  // namespace echo
