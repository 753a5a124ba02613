#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/config_fields.h"
#include "nn/language_model.h"
#include "nn/weight_names.h"

namespace echo {

// A kind of model: how its config.json is recognised, read and written, which weights it has, and how it is built. A new one is
// a LanguageModel and a function that returns its ModelFamily, in files of their own, and one line in the table of
// model_families.cpp. nn/llama_family.cpp is the example.
struct ModelFamily {
  // Its names in config.json. A model whose layers share attention has names of its own, so that other programs do not take it
  // for an unshared one.
  std::string model_type, architecture;
  std::string older_architecture;  // read, never written; may be empty
  std::string shared_model_type, shared_architecture;

  // From the keys of config.json; validate() follows. Throws Error (bad_data) for what the model cannot do.
  LlamaConfig (*read_config)(const ConfigFields& fields) = nullptr;
  // All keys but the names above, leader_map and echo_teacher.
  void (*write_config)(const LlamaConfig& config, nlohmann::json& json) = nullptr;
  // Every parameter, in the order of the forward pass.
  std::vector<WeightShape> (*weight_shapes)(const LlamaConfig& config, const LeaderMap& leader_map) = nullptr;
  // A model with weights of zeros under those names.
  std::unique_ptr<LanguageModel> (*make)(const LlamaConfig& config, const LeaderMap& leader_map,
                                         const WeightOptions& options) = nullptr;
};

}  // namespace echo
