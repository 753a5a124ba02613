#include "nn/model_config.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/strict_json.h"

namespace echo {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSharedArchitecture = "SharedAttentionLlamaForCausalLM";
constexpr std::string_view kSharedModelType = "shared_attention_llama";
constexpr size_t kMaxConfigBytes = 4 << 20;

// Typed access to the keys of one JSON object; null counts as absent, as transformers treats it.
class Fields {
 public:
  Fields(const Json& object, std::string source) : object_(object), source_(std::move(source)) {
    if (!object.is_object()) refuse("is not a JSON object");
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::bad_data, source_, ": ", parts...);
  }

  const Json* find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  int64_t integer(std::string_view key) const {
    const Json* value = find(key);
    if (value == nullptr) refuse("has no ", key);
    return whole(*value, key);
  }
  int64_t integer(std::string_view key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }
  int64_t whole(const Json& value, std::string_view key) const {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(INT64_MAX)))
      refuse(key, " is ", value.dump().substr(0, 80), ", expected a whole number");
    return value.get<int64_t>();
  }
  double number(std::string_view key, double otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) refuse(key, " is ", value->dump().substr(0, 80), ", expected a number");
    return value->get<double>();
  }
  bool flag(std::string_view key, bool otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(key, " is ", value->dump().substr(0, 80), ", expected true or false");
    return value->get<bool>();
  }
  std::string text(std::string_view key, std::string otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) refuse(key, " is ", value->dump().substr(0, 80), ", expected a text");
    return value->get<std::string>();
  }
  const Json& json() const { return object_; }
  const std::string& source() const { return source_; }

 private:
  const Json& object_;
  std::string source_;
};

struct RopeSettings {
  std::optional<double> theta;
  RopeScaling scaling;
};

std::string_view name_of(RopeType type) {
  constexpr std::string_view names[] = {"default", "linear", "llama3"};
  return names[size_t(type)];
}

// One of the two places: rope_scaling, or rope_parameters, which also holds rope_theta.
RopeSettings read_rope(const Fields& model, std::string_view place) {
  const Fields fields(*model.find(place), concat(model.source(), ": ", place));
  static const std::set<std::string> known = {"type",
                                              "rope_type",
                                              "rope_theta",
                                              "factor",
                                              "low_freq_factor",
                                              "high_freq_factor",
                                              "original_max_position_embeddings",
                                              "partial_rotary_factor"};
  for (const auto& [key, value] : fields.json().items())
    if (!known.contains(key) && !value.is_null())
      fields.refuse("the key ", key, " is not supported; RoPE types default, linear and llama3 are");
  const std::string type = fields.text("rope_type", fields.text("type", "default"));
  if (fields.has("type") && fields.text("type", "") != type)
    fields.refuse("type is ", fields.text("type", ""), " and rope_type is ", type);
  RopeSettings result;
  if (fields.has("rope_theta")) result.theta = fields.number("rope_theta", 0);
  if (fields.number("partial_rotary_factor", 1.0) != 1.0) fields.refuse("partial_rotary_factor other than 1 is not supported");
  RopeScaling& scaling = result.scaling;
  if (type == "default" || type == "none") return result;
  const auto required = [&](std::string_view key) {
    if (!fields.has(key)) fields.refuse("the RoPE type ", type, " needs ", key);
    return fields.number(key, 0);
  };
  if (type == "linear") {
    scaling.type = RopeType::linear;
    scaling.factor = required("factor");
  } else if (type == "llama3") {
    scaling.type = RopeType::llama3;
    scaling.factor = required("factor");
    scaling.low_freq_factor = required("low_freq_factor");
    scaling.high_freq_factor = required("high_freq_factor");
    scaling.original_max_position_embeddings = fields.integer("original_max_position_embeddings");
  } else {
    fields.refuse("the RoPE type \"", type, "\" is not supported; default, linear and llama3 are");
  }
  return result;
}

std::string describe(const RopeScaling& scaling) {
  if (scaling.type == RopeType::none) return "default";
  std::string text = concat(name_of(scaling.type), " with factor ", scaling.factor);
  if (scaling.type == RopeType::llama3)
    text += concat(", low ", scaling.low_freq_factor, ", high ", scaling.high_freq_factor, ", original length ",
                   scaling.original_max_position_embeddings);
  return text;
}

void read_rope_settings(const Fields& fields, LlamaConfig& config) {
  constexpr double kDefaultTheta = 10000.0;
  std::optional<double> theta;
  std::optional<RopeScaling> scaling;
  if (fields.has("rope_theta")) theta = fields.number("rope_theta", 0);
  // An explicit null for rope_scaling next to rope_parameters says nothing: transformers writes it for every model.
  for (const std::string_view place : {"rope_scaling", "rope_parameters"}) {
    if (!fields.has(place)) continue;
    const RopeSettings found = read_rope(fields, place);
    if (theta && found.theta && *theta != *found.theta)
      fields.refuse("rope_theta is given twice and differs: ", *theta, " and, in ", place, ", ", *found.theta);
    if (scaling && *scaling != found.scaling)
      fields.refuse("rope_scaling (", describe(*scaling), ") and rope_parameters (", describe(found.scaling), ") disagree");
    if (found.theta) theta = found.theta;
    scaling = found.scaling;
  }
  if (fields.number("partial_rotary_factor", 1.0) != 1.0) fields.refuse("partial_rotary_factor other than 1 is not supported");
  config.rope_theta = theta.value_or(kDefaultTheta);
  config.rope_scaling = scaling.value_or(RopeScaling{});
}

DType read_dtype(const Fields& fields) {
  std::optional<std::string> name;
  for (const std::string_view key : {"torch_dtype", "dtype"}) {
    if (!fields.has(key)) continue;
    const std::string found = fields.text(key, "");
    if (name && *name != found) fields.refuse("torch_dtype is ", *name, " and dtype is ", found);
    name = found;
  }
  if (!name || *name == "float32" || *name == "float16") return DType::f32;
  if (*name == "bfloat16") return DType::bf16;
  if (*name == "float64") return DType::f64;
  fields.refuse("dtype \"", *name, "\" is not supported; float32, bfloat16, float16 and float64 are");
}

// Whether the file says that it is a shared model.
bool read_architecture(const Fields& fields) {
  const std::string model_type = fields.text("model_type", "");
  std::string architecture;
  if (const Json* list = fields.find("architectures")) {
    if (!list->is_array() || list->size() != 1 || !list->front().is_string())
      fields.refuse("architectures is ", list->dump().substr(0, 80), ", expected a list of one name");
    architecture = list->front().get<std::string>();
  }
  if (model_type.empty() && architecture.empty())
    fields.refuse("has neither model_type nor architectures: not a model's config.json");
  if (!model_type.empty() && model_type != "llama" && model_type != kSharedModelType)
    fields.refuse("model_type \"", model_type, "\" is not supported; llama and ", kSharedModelType, " are");
  if (!architecture.empty() && architecture != "LlamaForCausalLM" && architecture != "LLaMAForCausalLM" &&
      architecture != kSharedArchitecture)
    fields.refuse("the architecture ", architecture, " is not supported; LlamaForCausalLM and ", kSharedArchitecture, " are");
  return model_type == kSharedModelType || architecture == kSharedArchitecture;
}

std::optional<TeacherIdentity> read_teacher(const Fields& model) {
  const Json* found = model.find("echo_teacher");
  if (found == nullptr) return std::nullopt;
  const Fields fields(*found, model.source() + ": echo_teacher");
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
  const Fields fields(json, std::string(source));
  const bool shared = read_architecture(fields);
  LlamaConfig config;
  config.vocab_size = fields.integer("vocab_size");
  config.hidden_size = fields.integer("hidden_size");
  config.intermediate_size = fields.integer("intermediate_size");
  config.num_hidden_layers = fields.integer("num_hidden_layers");
  config.num_attention_heads = fields.integer("num_attention_heads");
  config.num_key_value_heads = fields.integer("num_key_value_heads", config.num_attention_heads);
  if (fields.has("head_dim")) {
    config.head_dim = fields.integer("head_dim");
  } else {
    if (config.num_attention_heads < 1 || config.hidden_size % config.num_attention_heads != 0)
      fields.refuse("hidden_size ", config.hidden_size, " is not a multiple of num_attention_heads ",
                    config.num_attention_heads);
    config.head_dim = config.hidden_size / config.num_attention_heads;
  }
  config.max_position_embeddings = fields.integer("max_position_embeddings", config.max_position_embeddings);
  config.rms_norm_eps = fields.number("rms_norm_eps", config.rms_norm_eps);
  config.initializer_range = fields.number("initializer_range", config.initializer_range);
  config.tie_word_embeddings = fields.flag("tie_word_embeddings", false);
  read_rope_settings(fields, config);
  config.dtype = read_dtype(fields);

  if (const std::string activation = fields.text("hidden_act", "silu"); activation != "silu" && activation != "swish")
    fields.refuse("hidden_act \"", activation, "\" is not supported; silu is");
  for (const std::string_view key : {"attention_bias", "mlp_bias"})
    if (fields.flag(key, false)) fields.refuse(key, " is true; models with biases are not supported");
  if (fields.has("quantization_config"))
    fields.refuse("holds quantised weights (quantization_config), which are not supported");

  if (fields.has("bos_token_id")) config.bos_token_id = fields.integer("bos_token_id");
  if (const Json* eos = fields.find("eos_token_id")) {
    if (eos->is_array())
      for (const Json& token : *eos) config.eos_token_id.push_back(fields.whole(token, "eos_token_id"));
    else
      config.eos_token_id.push_back(fields.integer("eos_token_id"));
  }
  // Some files write -1 for "none".
  if (fields.has("pad_token_id") && fields.integer("pad_token_id") >= 0) config.pad_token_id = fields.integer("pad_token_id");
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
  const LlamaConfig& config = description.config;
  const bool shared = description.leader_map.shares();
  Json json;
  json["architectures"] = {shared ? kSharedArchitecture : "LlamaForCausalLM"};
  json["model_type"] = shared ? kSharedModelType : "llama";
  json["vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["num_hidden_layers"] = config.num_hidden_layers;
  json["num_attention_heads"] = config.num_attention_heads;
  json["num_key_value_heads"] = config.num_key_value_heads;
  json["head_dim"] = config.head_dim;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["rms_norm_eps"] = config.rms_norm_eps;
  json["initializer_range"] = config.initializer_range;
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  json["hidden_act"] = "silu";
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["use_cache"] = true;
  const char* dtype = config.dtype == DType::bf16 ? "bfloat16" : config.dtype == DType::f64 ? "float64" : "float32";
  json["torch_dtype"] = dtype;
  json["dtype"] = dtype;

  const RopeScaling& scaling = config.rope_scaling;
  Json rope = {{"rope_type", name_of(scaling.type)}};
  if (scaling.type != RopeType::none) rope["factor"] = scaling.factor;
  if (scaling.type == RopeType::llama3) {
    rope["low_freq_factor"] = scaling.low_freq_factor;
    rope["high_freq_factor"] = scaling.high_freq_factor;
    rope["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  }
  json["rope_theta"] = config.rope_theta;
  json["rope_scaling"] = scaling.type == RopeType::none ? Json() : rope;
  rope["rope_theta"] = config.rope_theta;
  json["rope_parameters"] = rope;

  json["bos_token_id"] = config.bos_token_id ? Json(*config.bos_token_id) : Json();
  if (config.eos_token_id.empty())
    json["eos_token_id"] = nullptr;
  else if (config.eos_token_id.size() == 1)
    json["eos_token_id"] = config.eos_token_id.front();
  else
    json["eos_token_id"] = config.eos_token_id;
  json["pad_token_id"] = config.pad_token_id ? Json(*config.pad_token_id) : Json();
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
  const uint64_t hash = XXH3_64bits(config.data(), config.size());
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += digits[(hash >> shift) & 15];
  return {std::move(name), std::move(text)};
}

}  // namespace echo
