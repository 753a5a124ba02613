#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/leader_map.h"
#include "nn/model_config.h"
#include "nn/weight_names.h"

namespace echo {

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

// Hashes config.json of a model folder. Throws Error (input_missing, io) when it cannot be read.
TeacherIdentity identify_model(const std::filesystem::path& folder, std::string name);

// Every parameter, in the order of the forward pass: embedding, layers, final norm, head (untied models only).
std::vector<WeightShape> weight_shapes(const LlamaConfig& config, const LeaderMap& leader_map);

// Elements of all of them; a tied head counts once.
int64_t parameter_count(const LlamaConfig& config, const LeaderMap& leader_map);

}  // namespace echo
