#include "nn/model_config.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
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

void validate(const LlamaConfig& config, std::string_view source, ExitCode code) {
  const auto refuse = [&](const auto&... parts) { fail(code, source, ": ", parts...); };
  // Far above any model; their products stay below 2^62.
  const auto expect = [&](std::string_view name, int64_t value, int64_t most) {
    if (value < 1 || value > most) refuse(name, " is ", value, ", expected 1 to ", most);
  };
  expect("vocab_size", config.vocab_size, int64_t{1} << 24);
  expect("hidden_size", config.hidden_size, int64_t{1} << 17);
  expect("intermediate_size", config.intermediate_size, int64_t{1} << 20);
  expect("num_hidden_layers", config.num_hidden_layers, 1024);
  expect("num_attention_heads", config.num_attention_heads, 2048);
  expect("num_key_value_heads", config.num_key_value_heads, 2048);
  expect("head_dim", config.head_dim, 2048);
  expect("max_position_embeddings", config.max_position_embeddings, int64_t{1} << 30);
  if (config.num_attention_heads % config.num_key_value_heads != 0)
    refuse("num_attention_heads ", config.num_attention_heads, " is not a multiple of num_key_value_heads ",
           config.num_key_value_heads);
  if (config.head_dim % 2 != 0) refuse("head_dim ", config.head_dim, " is odd; rotary positions turn pairs");
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1))
    refuse("rms_norm_eps is ", config.rms_norm_eps, ", expected a small positive number");
  if (!(config.initializer_range > 0 && config.initializer_range < 100))
    refuse("initializer_range is ", config.initializer_range, ", expected a positive number");
  if (!(config.rope_theta > 1 && std::isfinite(config.rope_theta)))
    refuse("rope_theta is ", config.rope_theta, ", expected a number over 1");
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type != RopeType::none && !(scaling.factor >= 1 && std::isfinite(scaling.factor)))
    refuse("the RoPE factor is ", scaling.factor, ", expected 1 or more");
  if (scaling.type == RopeType::llama3) {
    if (!(scaling.low_freq_factor > 0 && scaling.high_freq_factor > scaling.low_freq_factor &&
          std::isfinite(scaling.high_freq_factor)))
      refuse("the RoPE factors low_freq_factor ", scaling.low_freq_factor, " and high_freq_factor ", scaling.high_freq_factor,
             " must be positive and increasing");
    expect("original_max_position_embeddings", scaling.original_max_position_embeddings, int64_t{1} << 30);
  }
  const auto expect_token = [&](std::string_view name, int64_t token) {
    if (token < 0 || token >= config.vocab_size) refuse(name, " ", token, " is outside the vocabulary of ", config.vocab_size);
  };
  if (config.bos_token_id) expect_token("bos_token_id", *config.bos_token_id);
  for (const int64_t token : config.eos_token_id) expect_token("eos_token_id", token);
  if (!is_float(config.dtype)) refuse("dtype ", config.dtype, " is not a float type");
}

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

int64_t parameter_count(const LlamaConfig& config, const LeaderMap& leader_map) {
  const int64_t hidden = config.hidden_size;
  const int64_t query = config.num_attention_heads * config.head_dim, key = config.num_key_value_heads * config.head_dim;
  // q and o, k and v, the three of the MLP, two norms
  const int64_t layer = 2 * query * hidden + 2 * key * hidden + 3 * config.intermediate_size * hidden + 2 * hidden;
  const int64_t embeddings = (config.tie_word_embeddings ? 1 : 2) * config.vocab_size * hidden;
  return embeddings + config.num_hidden_layers * layer + hidden -
         leader_map.parameters_removed(hidden, config.num_attention_heads, config.num_key_value_heads, config.head_dim);
}

TeacherIdentity identify_model(const std::filesystem::path& folder, std::string name) {
  const std::string config = read_file(folder / "config.json");
  return {std::move(name), fmt::format("{:016x}", XXH3_64bits(config.data(), config.size()))};
}

}  // namespace echo
