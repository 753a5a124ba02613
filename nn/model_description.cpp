#include "nn/model_description.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "base/strict_json.h"
#include "nn/config_fields.h"
#include "nn/model_families.h"

namespace echo {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = 4 << 20;

std::optional<TeacherIdentity> read_teacher(const ConfigFields& model) {
  const Json* found = model.find("echo_teacher");
  if (found == nullptr) return std::nullopt;
  const ConfigFields fields(*found, model.source() + ": echo_teacher");
  return TeacherIdentity{fields.text("name", ""), fields.text("config_xxh3", "")};
}

}  // namespace

ModelDescription model_description_from_json(const nlohmann::json& json, std::string_view source) {
  const ConfigFields fields(json, std::string(source));
  const auto [family, shared] = identify_family(fields);
  LlamaConfig config = family.read_config(fields);
  config.family = family.model_type;
  validate(config, source);

  ModelDescription result{config, LeaderMap::own(config.num_hidden_layers), read_teacher(fields)};
  if (const Json* map = fields.find("leader_map")) {
    result.leader_map = LeaderMap::from_json(*map, concat(source, ": leader_map"));
    if (result.leader_map.layers() != config.num_hidden_layers)
      fields.refuse("leader_map has ", result.leader_map.layers(), " entries, num_hidden_layers is ", config.num_hidden_layers);
  } else if (shared) {
    fields.refuse("is a model with shared attention and has no leader_map");
  }
  return result;
}

ModelDescription read_model_description(const std::filesystem::path& config_file) {
  std::error_code ignored;
  if (const auto size = std::filesystem::file_size(config_file, ignored); !ignored && size > kMaxConfigBytes)
    fail(ExitCode::bad_data, config_file.string(), ": has ", size, " bytes, too many for a config.json");
  return model_description_from_json(parse_strict_json(read_file(config_file), config_file.string()), config_file.string());
}

nlohmann::json to_json(const ModelDescription& description) {
  const ModelFamily& family = model_family(description.config.family);
  const bool shared = description.leader_map.shares();
  Json json;
  family.write_config(description.config, json);
  json["architectures"] = {shared ? family.shared_architecture : family.architecture};
  json["model_type"] = shared ? family.shared_model_type : family.model_type;
  if (shared) json["leader_map"] = description.leader_map.to_json();
  if (description.teacher)
    json["echo_teacher"] = {{"name", description.teacher->name}, {"config_xxh3", description.teacher->config_xxh3}};
  return json;
}

TeacherIdentity identify_model(const std::filesystem::path& folder, std::string name) {
  const std::string config = read_file(folder / "config.json");
  return {std::move(name), fmt::format("{:016x}", XXH3_64bits(config.data(), config.size()))};
}

std::vector<WeightShape> weight_shapes(const LlamaConfig& config, const LeaderMap& leader_map) {
  ECHO_CHECK(leader_map.layers() == config.num_hidden_layers, "weight_shapes: a leader map of ", leader_map.layers(),
             " layers for a model of ", config.num_hidden_layers);
  return model_family(config.family).weight_shapes(config, leader_map);
}

int64_t parameter_count(const LlamaConfig& config, const LeaderMap& leader_map) {
  int64_t count = 0;
  for (const WeightShape& weight : weight_shapes(config, leader_map)) count += weight.shape.elements();
  return count;
}

}  // namespace echo
