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

// The teacher that a student was made from.
struct TeacherIdentity {
  std::string name;         // as the user named it: folder or hub name
  std::string config_xxh3;  // 16 hexadecimal digits: XXH3-64 of its config.json
  bool operator==(const TeacherIdentity&) const = default;
};

// The content of config.json.
struct ModelDescription {
  LlamaConfig config;
  LeaderMap leader_map = LeaderMap::own(1);  // of config.num_hidden_layers layers
  std::optional<TeacherIdentity> teacher;    // students only
};

// Reads the content of config.json, as its family defines it (nn/model_families.h). Without leader_map every layer computes its
// own matrix. Throws Error: bad_data for a missing or ill-typed key, for an unknown architecture, activation, RoPE type or
// dtype, for biases, for quantised weights and for everything that validate() rejects; config for an invalid leader map.
ModelDescription model_description_from_json(const nlohmann::json& json, std::string_view source);

// Reads a config.json file. Throws Error: input_missing when it does not exist, otherwise as above.
ModelDescription read_model_description(const std::filesystem::path& config_file);

// The content of config.json. A model with sharing has its own model_type and architecture ("shared_attention_llama"). Under
// the names of the unshared model, transformers would load it with a warning, and fill the followers' missing projections with
// random numbers.
nlohmann::json to_json(const ModelDescription& description);

// Hashes config.json of a model folder. Throws Error (input_missing, io) when it cannot be read.
TeacherIdentity identify_model(const std::filesystem::path& folder, std::string name);

// Every parameter, in the order of the forward pass: embedding, layers, final norm, head (only if not tied).
std::vector<WeightShape> weight_shapes(const LlamaConfig& config, const LeaderMap& leader_map);

// The number of elements of all of them. A tied head counts once.
int64_t parameter_count(const LlamaConfig& config, const LeaderMap& leader_map);

}  // namespace echo
