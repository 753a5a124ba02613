#include "nn/model_families.h"

#include <algorithm>
#include <list>

#include "nn/llama_family.h"

namespace echo {
namespace {

// A list, so that references to families stay valid when one is added.
std::list<ModelFamily>& table() {
  static std::list<ModelFamily> families = {
      llama_family(),
  };
  return families;
}

using Name = std::string ModelFamily::*;

// The family that has `value` under one of these names, or null.
const ModelFamily* find(const std::string& value, std::initializer_list<Name> names) {
  for (const ModelFamily& family : table())
    if (std::any_of(names.begin(), names.end(), [&](Name name) { return family.*name == value; })) return &family;
  return nullptr;
}

// "a, b and c are"
std::string supported(Name own, Name shared) {
  std::vector<std::string> names;
  for (const ModelFamily& family : table()) names.insert(names.end(), {family.*own, family.*shared});
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text + " are";
}

}  // namespace

const ModelFamily& model_family(std::string_view model_type) {
  const ModelFamily* family = find(std::string(model_type), {&ModelFamily::model_type});
  ECHO_CHECK(family != nullptr, "model family: \"", model_type, "\" is not in the table");
  return *family;
}

FamilyOfConfig identify_family(const ConfigFields& fields) {
  const std::string model_type = fields.text("model_type", "");
  std::string architecture;
  if (const nlohmann::json* list = fields.find("architectures")) {
    if (!list->is_array() || list->size() != 1 || !list->front().is_string())
      fields.refuse("architectures is ", list->dump().substr(0, 80), ", expected a list of one name");
    architecture = list->front().get<std::string>();
  }
  if (model_type.empty() && architecture.empty())
    fields.refuse("has neither model_type nor architectures: not a model's config.json");
  const ModelFamily *by_type = nullptr, *by_architecture = nullptr;
  if (!model_type.empty()) {
    by_type = find(model_type, {&ModelFamily::model_type, &ModelFamily::shared_model_type});
    if (by_type == nullptr)
      fields.refuse("model_type \"", model_type, "\" is not supported; ",
                    supported(&ModelFamily::model_type, &ModelFamily::shared_model_type));
  }
  if (!architecture.empty()) {
    by_architecture =
        find(architecture, {&ModelFamily::architecture, &ModelFamily::older_architecture, &ModelFamily::shared_architecture});
    if (by_architecture == nullptr)
      fields.refuse("the architecture ", architecture, " is not supported; ",
                    supported(&ModelFamily::architecture, &ModelFamily::shared_architecture));
  }
  if (by_type != nullptr && by_architecture != nullptr && by_type != by_architecture)
    fields.refuse("model_type is \"", model_type, "\", but the architecture ", architecture, " is not of that type");
  const ModelFamily& family = by_type != nullptr ? *by_type : *by_architecture;
  return {family, model_type == family.shared_model_type || architecture == family.shared_architecture};
}

void add_model_family(ModelFamily family) { table().push_back(std::move(family)); }

}  // namespace echo
