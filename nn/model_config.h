#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "nn/leader_map.h"
#include "tensor/dtype.h"

namespace echo {

enum class RopeType { none, linear, llama3 };

// How rotary frequencies are stretched for texts longer than those of the first training. `none`: not at all.
//   linear: every frequency divided by `factor`.
//   llama3: wavelengths over original_max_position_embeddings / low_freq_factor divided by `factor`, those under
//     original_max_position_embeddings / high_freq_factor kept, those between interpolated.
struct RopeScaling {
  RopeType type = RopeType::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;                  // llama3 only
  double high_freq_factor = 4.0;                 // llama3 only
  int64_t original_max_position_embeddings = 0;  // llama3 only, tokens
  bool operator==(const RopeScaling&) const = default;
};

// The shape of a Llama or of a model much like it, in the field names of Hugging Face's config.json. A family that has a
// setting which Llama lacks (biases, say) adds a field here whose default is what Llama does, and reads and writes it in its
// ModelFamily.
struct LlamaConfig {
  std::string family = "llama";  // ModelFamily::model_type (nn/model_families.h)
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;                 // D, width of the residual stream
  int64_t intermediate_size = 0;           // width inside the MLP
  int64_t num_hidden_layers = 0;           // L
  int64_t num_attention_heads = 0;         // H, query heads
  int64_t num_key_value_heads = 0;         // Hkv, divides H
  int64_t head_dim = 0;                    // Dh; H * Dh is D in all published models, but need not be
  int64_t max_position_embeddings = 2048;  // tokens that the model was trained for
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;  // base of the rotary frequencies
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;  // the head uses the embedding's matrix
  double initializer_range = 0.02;   // standard deviation of initial weights
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_id;  // any of them ends a text; empty: none
  std::optional<int64_t> pad_token_id;
  DType dtype = DType::f32;  // of the stored weights; float16 reads as f32
  bool operator==(const LlamaConfig&) const = default;
};

// Which teacher a student was made from.
struct TeacherIdentity {
  std::string name;         // as the user named it: folder or hub name
  std::string config_xxh3;  // 16 hexadecimal digits: XXH3-64 of its config.json
  bool operator==(const TeacherIdentity&) const = default;
};

// All that config.json says of a model.
struct ModelDescription {
  LlamaConfig config;
  LeaderMap leader_map = LeaderMap::own(1);  // of config.num_hidden_layers layers
  std::optional<TeacherIdentity> teacher;    // students only
};

// Refuses sizes that are zero, negative, absurd or do not divide, and token ids outside the vocabulary; no count of
// parameters or bytes of a config that passes can overflow int64. `source` begins every message.
void validate(const LlamaConfig& config, std::string_view source, ExitCode code = ExitCode::bad_data);

// From the content of config.json, as its family reads it (nn/model_families.h). Without leader_map every layer computes
// its own matrix. Throws Error (bad_data): missing or ill-typed key, unknown architecture, activation, RoPE type or dtype,
// biases, quantised weights, and what validate() refuses; (config) for an invalid leader map.
ModelDescription model_description_from_json(const nlohmann::json& json, std::string_view source);

// From a config.json file. Throws Error (input_missing) when it is not there, else as above.
ModelDescription read_model_description(const std::filesystem::path& config_file);

// The content of config.json. A shared model has a model_type and an architecture of its own ("shared_attention_llama"): under
// those of the unshared model transformers would load it, warn, and fill the followers' absent projections with random
// numbers.
nlohmann::json to_json(const ModelDescription& description);

// Parameters of the model in closed form; a tied head counts once.
int64_t parameter_count(const LlamaConfig& config, const LeaderMap& leader_map);

// Hashes config.json of a model folder. Throws Error (input_missing, io) when it cannot be read.
TeacherIdentity identify_model(const std::filesystem::path& folder, std::string name);

}  // namespace echo
