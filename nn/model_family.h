#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/config_fields.h"
#include "nn/language_model.h"
#include "nn/weight_names.h"

namespace echo {

// A kind of model: how its config.json is recognised, read and written, which weights it has, and how it is built. A new family
// needs a LanguageModel, a function that returns its ModelFamily, and one line in the table of model_families.cpp.
// nn/llama_family.cpp is an example.
struct ModelFamily {
  // The names in config.json. A model whose layers share attention has separate names, so that other programs do not read it as
  // an unshared one.
  std::string model_type, architecture;
  std::string older_architecture;  // read, never written; may be empty
  std::string shared_model_type, shared_architecture;

  // Reads the keys of config.json; the caller then calls validate(). Throws Error (bad_data) for what the model does not
  // support.
  LlamaConfig (*read_config)(const ConfigFields& fields) = nullptr;
  // Writes all keys except the names above, leader_map and echo_teacher.
  void (*write_config)(const LlamaConfig& config, nlohmann::json& json) = nullptr;
  // Every parameter, in the order of the forward pass.
  std::vector<WeightShape> (*weight_shapes)(const LlamaConfig& config, const LeaderMap& leader_map) = nullptr;
  // Makes a model with these weights, all zero.
  std::unique_ptr<LanguageModel> (*make)(const LlamaConfig& config, const LeaderMap& leader_map,
                                         const WeightOptions& options) = nullptr;
};

}  // namespace echo
