#include "nn/weight_names.h"

#include "base/error.h"

namespace echo {

std::string layer_weight(int64_t layer, std::string_view part) { return concat("model.layers.", layer, ".", part, ".weight"); }

std::vector<WeightShape> weight_shapes(const LlamaConfig& config, const LeaderMap& leader_map) {
  ECHO_CHECK(leader_map.layers() == config.num_hidden_layers, "weight_shapes: a leader map of ", leader_map.layers(),
             " layers for a model of ", config.num_hidden_layers);
  const int64_t hidden = config.hidden_size, mlp = config.intermediate_size;
  const int64_t query = config.num_attention_heads * config.head_dim, key = config.num_key_value_heads * config.head_dim;
  std::vector<WeightShape> result;
  result.push_back({std::string(kEmbeddingWeight), {config.vocab_size, hidden}});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto add = [&](std::string_view part, const Shape& shape) { result.push_back({layer_weight(layer, part), shape}); };
    if (!leader_map.follows(layer)) {
      add("self_attn.q_proj", {query, hidden});
      add("self_attn.k_proj", {key, hidden});
    }
    add("self_attn.v_proj", {key, hidden});
    add("self_attn.o_proj", {hidden, query});
    add("mlp.gate_proj", {mlp, hidden});
    add("mlp.up_proj", {mlp, hidden});
    add("mlp.down_proj", {hidden, mlp});
    add("input_layernorm", {hidden});
    add("post_attention_layernorm", {hidden});
  }
  result.push_back({std::string(kFinalNormWeight), {hidden}});
  if (!config.tie_word_embeddings) result.push_back({std::string(kHeadWeight), {config.vocab_size, hidden}});
  return result;
}

}  // namespace echo
