#pragma once

// Layers and their times for benchmarks/scaling_simulation, estimated from the shapes of a model.

#include "nn/model_description.h"
#include "training/step_simulation.h"

namespace echo::benchmarks {

inline LlamaConfig published_shape(const std::string& name) {
  LlamaConfig config;
  config.vocab_size = 32000, config.head_dim = 128, config.rms_norm_eps = 1e-5;
  if (name == "tinyllama") {
    config.num_hidden_layers = 22, config.hidden_size = 2048, config.intermediate_size = 5632;
    config.num_attention_heads = 32, config.num_key_value_heads = 4, config.head_dim = 64;
  } else if (name == "llama-7b") {
    config.num_hidden_layers = 32, config.hidden_size = 4096, config.intermediate_size = 11008;
    config.num_attention_heads = config.num_key_value_heads = 32;
  } else {  // llama-13b
    config.num_hidden_layers = 40, config.hidden_size = 5120, config.intermediate_size = 13824;
    config.num_attention_heads = config.num_key_value_heads = 40;
  }
  return config;
}

// The parameters of embedding, each layer, and head with final norm, in the order of the forward pass.
inline std::vector<int64_t> parameters_by_layer(const LlamaConfig& config, const LeaderMap& leader_map) {
  std::vector<int64_t> parts(size_t(config.num_hidden_layers) + 2, 0);
  const std::string prefix = "model.layers.";
  for (const WeightShape& weight : weight_shapes(config, leader_map)) {
    size_t part = parts.size() - 1;
    if (weight.name.starts_with(prefix)) part = 1 + std::stoul(weight.name.substr(prefix.size()));
    if (weight.name.starts_with("model.embed_tokens")) part = 0;
    parts[part] += weight.shape.elements();
  }
  return parts;
}

struct Workload {
  int64_t rows = 4, tokens_per_row = 2048;  // of a micro-batch
  double rate = 4e14;                       // floating-point operations per second that a rank reaches
  bool distillation = true;
  bool recompute = false;
};

// Times from counting: 2 operations per parameter and token, and causal attention's products of queries, keys and values. A
// backward pass costs twice the forward pass. Embeddings are looked up, which takes no products.
inline std::vector<SimulatedLayer> estimated_layers(const LlamaConfig& config, const LeaderMap& leader_map,
                                                    const Workload& work) {
  const std::vector<int64_t> student = parameters_by_layer(config, leader_map);
  const std::vector<int64_t> teacher = parameters_by_layer(config, LeaderMap::own(config.num_hidden_layers));
  const double tokens = double(work.rows * work.tokens_per_row);
  const double attention = 2 * tokens * double(work.tokens_per_row) * double(config.num_attention_heads * config.head_dim);
  std::vector<SimulatedLayer> layers;
  for (size_t i = 0; i < student.size(); ++i) {
    const bool transformer_layer = i > 0 && i + 1 < student.size();
    const double scale = i == 0 ? 0 : 1 / work.rate;
    SimulatedLayer layer;
    layer.parameters = student[i];
    layer.forward = scale * (2 * tokens * double(student[i]) + (transformer_layer ? attention : 0));
    layer.backward = (work.recompute && transformer_layer ? 3 : 2) * layer.forward;
    if (work.distillation) {
      layer.teacher_parameters = teacher[i];
      layer.teacher_forward = scale * (2 * tokens * double(teacher[i]) + (transformer_layer ? attention : 0));
    }
    layers.push_back(layer);
  }
  return layers;
}

}  // namespace echo::benchmarks
