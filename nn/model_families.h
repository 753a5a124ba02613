#pragma once

#include <string_view>

#include "nn/model_family.h"

namespace echo {

// The family with this model_type (LlamaConfig::family). Throws Error when there is none.
const ModelFamily& model_family(std::string_view model_type);

// What model_type and architectures of a config.json say; one of them may be absent. Throws Error (bad_data) when both are, or
// one is unknown.
struct FamilyOfConfig {
  const ModelFamily& family;
  bool shared;  // under the names of a model that shares attention
};
FamilyOfConfig identify_family(const ConfigFields& fields);

// Adds a family of the program's own to the table. Before other threads read or make models.
void add_model_family(ModelFamily family);

}  // namespace echo
