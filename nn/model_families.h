#pragma once

#include <string_view>

#include "nn/model_family.h"

namespace echo {

// The family with this model_type (LlamaConfig::family). Throws Error when there is none.
const ModelFamily& model_family(std::string_view model_type);

// The family according to model_type and architectures in a config.json. One of the two may be absent. Throws Error (bad_data)
// when both are absent, when one is unknown, or when they disagree.
struct FamilyOfConfig {
  const ModelFamily& family;
  bool shared;  // the names are those of a model with shared attention
};
FamilyOfConfig identify_family(const ConfigFields& fields);

// Adds a family of the program's own to the table. Call it before other threads read or make models.
void add_model_family(ModelFamily family);

}  // namespace echo
