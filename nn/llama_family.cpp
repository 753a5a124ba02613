#include "nn/llama_family.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "nn/shared_attention_llama.h"

namespace echo {
namespace {

struct RopeSettings {
  std::optional<double> theta;
  RopeScaling scaling;
};

std::string_view name_of(RopeType type) {
  constexpr std::string_view names[] = {"default", "linear", "llama3"};
  return names[size_t(type)];
}

// Reads one of two places: rope_scaling, or rope_parameters, which also contains rope_theta.
RopeSettings read_rope(const ConfigFields& model, std::string_view place) {
  const ConfigFields fields(*model.find(place), concat(model.source(), ": ", place));
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

void read_rope_settings(const ConfigFields& fields, LlamaConfig& config) {
  constexpr double kDefaultTheta = 10000.0;
  std::optional<double> theta;
  std::optional<RopeScaling> scaling;
  if (fields.has("rope_theta")) theta = fields.number("rope_theta", 0);
  // A null for rope_scaling beside rope_parameters has no meaning: transformers writes it for every model.
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

DType read_dtype(const ConfigFields& fields) {
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

LlamaConfig read_config(const ConfigFields& fields) {
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
  if (fields.has("quantization_config")) fields.refuse("has quantised weights (quantization_config), which are not supported");

  if (fields.has("bos_token_id")) config.bos_token_id = fields.integer("bos_token_id");
  if (const nlohmann::json* eos = fields.find("eos_token_id")) {
    if (eos->is_array())
      for (const nlohmann::json& token : *eos) config.eos_token_id.push_back(fields.whole(token, "eos_token_id"));
    else
      config.eos_token_id.push_back(fields.integer("eos_token_id"));
  }
  // Some files write -1 for "none".
  if (fields.has("pad_token_id") && fields.integer("pad_token_id") >= 0) config.pad_token_id = fields.integer("pad_token_id");
  return config;
}

void write_config(const LlamaConfig& config, nlohmann::json& json) {
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
  nlohmann::json rope = {{"rope_type", name_of(scaling.type)}};
  if (scaling.type != RopeType::none) rope["factor"] = scaling.factor;
  if (scaling.type == RopeType::llama3) {
    rope["low_freq_factor"] = scaling.low_freq_factor;
    rope["high_freq_factor"] = scaling.high_freq_factor;
    rope["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  }
  json["rope_theta"] = config.rope_theta;
  json["rope_scaling"] = scaling.type == RopeType::none ? nlohmann::json() : rope;
  rope["rope_theta"] = config.rope_theta;
  json["rope_parameters"] = rope;

  json["bos_token_id"] = config.bos_token_id ? nlohmann::json(*config.bos_token_id) : nlohmann::json();
  if (config.eos_token_id.empty())
    json["eos_token_id"] = nullptr;
  else if (config.eos_token_id.size() == 1)
    json["eos_token_id"] = config.eos_token_id.front();
  else
    json["eos_token_id"] = config.eos_token_id;
  json["pad_token_id"] = config.pad_token_id ? nlohmann::json(*config.pad_token_id) : nlohmann::json();
}

std::vector<WeightShape> weights_of(const LlamaConfig& config, const LeaderMap& leader_map) {
  const int64_t hidden = config.hidden_size, mlp = config.intermediate_size;
  const int64_t query = config.num_attention_heads * config.head_dim, key = config.num_key_value_heads * config.head_dim;
  std::vector<WeightShape> result;
  result.push_back({std::string(kEmbeddingWeight), {config.vocab_size, hidden}});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto add = [&](std::string_view part, const Shape& shape) { result.push_back({layer_weight(layer, part), shape}); };
    if (!leader_map.follows(layer)) {
      add("self_attn.q_proj", {query, hidden});
      add("self_attn.k_proj", {key, hidden});
    }
    add("self_attn.v_proj", {key, hidden});
    add("self_attn.o_proj", {hidden, query});
    add("mlp.gate_proj", {mlp, hidden});
    add("mlp.up_proj", {mlp, hidden});
    add("mlp.down_proj", {hidden, mlp});
    add("input_layernorm", {hidden});
    add("post_attention_layernorm", {hidden});
  }
  result.push_back({std::string(kFinalNormWeight), {hidden}});
  if (!config.tie_word_embeddings) result.push_back({std::string(kHeadWeight), {config.vocab_size, hidden}});
  return result;
}

std::unique_ptr<LanguageModel> make(const LlamaConfig& config, const LeaderMap& leader_map, const WeightOptions& options) {
  if (leader_map.shares()) return std::make_unique<SharedAttentionLlama>(config, leader_map, options);
  return std::make_unique<Llama>(config, options);
}

}  // namespace

ModelFamily llama_family() {
  return {.model_type = "llama",
          .architecture = "LlamaForCausalLM",
          .older_architecture = "LLaMAForCausalLM",
          .shared_model_type = "shared_attention_llama",
          .shared_architecture = "SharedAttentionLlamaForCausalLM",
          .read_config = read_config,
          .write_config = write_config,
          .weight_shapes = weights_of,
          .make = make};
}

}  // namespace echo
