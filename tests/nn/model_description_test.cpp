#include "nn/model_description.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/strict_json.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Json = nlohmann::json;

Json tiny_json() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 512},
          {"hidden_size", 64},
          {"intermediate_size", 172},
          {"num_hidden_layers", 5},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 4},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"},
          {"bos_token_id", 1},
          {"eos_token_id", 2}};
}

LlamaConfig sizes(int64_t vocab, int64_t hidden, int64_t mlp, int64_t layers, int64_t heads, int64_t kv_heads) {
  LlamaConfig config;
  config.vocab_size = vocab;
  config.hidden_size = hidden;
  config.intermediate_size = mlp;
  config.num_hidden_layers = layers;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = hidden / heads;
  return config;
}

ModelDescription read(const Json& json) { return model_description_from_json(json, "config.json"); }

// Sets one key, and expects an error that contains `reason`.
void expect_refused(const std::string& key, const Json& value, const std::string& reason) {
  Json json = tiny_json();
  json[key] = value;
  const std::string message = error_message(ExitCode::bad_data, [&] { read(json); });
  EXPECT_TRUE(message.starts_with("config.json: ")) << message;
  expect_contains(message, reason);
}

TEST(ModelConfigTest, TheSmallModelsAreRead) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  const ModelDescription small = read_model_description(*shared / "models/stories260K/config.json");
  EXPECT_EQ(small.config.hidden_size, 64);
  EXPECT_EQ(small.config.num_key_value_heads, 4);
  EXPECT_EQ(small.config.head_dim, 8);
  EXPECT_TRUE(small.config.tie_word_embeddings);
  EXPECT_EQ(small.config.dtype, DType::f32);
  EXPECT_EQ(small.config.eos_token_id, std::vector<int64_t>{2});
  EXPECT_FALSE(small.leader_map.shares());
  const ModelDescription large = read_model_description(*shared / "models/stories12L/config.json");  // rope_parameters, dtype
  EXPECT_EQ(large.config.num_hidden_layers, 12);
  EXPECT_EQ(large.config.rope_theta, 10000.0);
  EXPECT_EQ(large.config.rope_scaling, RopeScaling{});
  EXPECT_FALSE(large.config.tie_word_embeddings);
  EXPECT_EQ(large.config.dtype, DType::bf16);
}

TEST(ModelConfigTest, ParameterCountsAreThePublishedOnes) {
  const LlamaConfig tinyllama = sizes(32000, 2048, 5632, 22, 32, 4), llama160m = sizes(32000, 768, 3072, 12, 12, 12);
  EXPECT_EQ(parameter_count(tinyllama, LeaderMap::own(22)), 1'100'048'384);
  EXPECT_EQ(parameter_count(llama160m, LeaderMap::own(12)), 162'417'408);
  EXPECT_EQ(parameter_count(tinyllama, LeaderMap::from_list(22, {5, 6, 7})), 1'100'048'384 - 3 * 4'718'592);
}

TEST(ModelConfigTest, AbsentKeysHaveTheDefaultsOfTheFormat) {
  Json json = tiny_json();
  json.erase("num_key_value_heads");
  json.erase("rms_norm_eps");
  json.erase("hidden_act");
  json["head_dim"] = nullptr;
  const LlamaConfig config = read(json).config;
  EXPECT_EQ(config.num_key_value_heads, 8);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_FALSE(config.tie_word_embeddings);
}

TEST(ModelConfigTest, EverythingSurvivesWritingAndReading) {
  ModelDescription model{read(tiny_json()).config, LeaderMap::own(5), std::nullopt};
  EXPECT_EQ(read(to_json(model)).config, model.config);
  for (const RopeScaling& scaling : {RopeScaling{RopeType::linear, 2.5}, RopeScaling{RopeType::llama3, 8.0, 1.0, 4.0, 8192}}) {
    model.config.rope_scaling = scaling;
    model.config.rope_theta = 500000.0;
    model.config.eos_token_id = {2, 7};
    model.config.bos_token_id.reset();
    model.config.dtype = DType::bf16;
    model.config.head_dim = 16;  // not hidden_size / heads
    model.leader_map = LeaderMap({0, 1, 1, 1, 4});
    model.teacher = TeacherIdentity{"some/teacher", "0123456789abcdef"};
    const ModelDescription back = read(parse_strict_json(to_json(model).dump(), "text"));
    EXPECT_EQ(back.config, model.config);
    EXPECT_EQ(back.leader_map, model.leader_map);
    EXPECT_EQ(back.teacher, model.teacher);
  }
}

TEST(ModelConfigTest, OnlySharedModelsHaveANameThatTransformersDoesNotKnow) {
  ModelDescription model{read(tiny_json()).config, LeaderMap::own(5), std::nullopt};
  EXPECT_EQ(to_json(model)["model_type"], "llama");
  EXPECT_EQ(to_json(model)["architectures"], Json({"LlamaForCausalLM"}));
  EXPECT_FALSE(to_json(model).contains("leader_map"));
  model.leader_map = LeaderMap({0, 1, 1, 3, 4});
  EXPECT_EQ(to_json(model)["model_type"], "shared_attention_llama");
  EXPECT_EQ(to_json(model)["architectures"], Json({"SharedAttentionLlamaForCausalLM"}));
  Json without_map = to_json(model);
  without_map.erase("leader_map");
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { read(without_map); }).find("no leader_map"), std::string::npos);
}

TEST(ModelConfigTest, BothSpellingsOfRopeAreReadAndMustAgree) {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  Json old_spelling = tiny_json(), new_spelling = tiny_json();
  old_spelling["rope_theta"] = 500000;
  old_spelling["rope_scaling"] = llama3;
  new_spelling["rope_parameters"] = llama3;
  new_spelling["rope_parameters"]["rope_theta"] = 500000.0;
  const LlamaConfig config = read(old_spelling).config;
  EXPECT_EQ(config.rope_theta, 500000.0);
  EXPECT_EQ(config.rope_scaling, (RopeScaling{RopeType::llama3, 8.0, 1.0, 4.0, 8192}));
  EXPECT_EQ(read(new_spelling).config, config);

  Json both = old_spelling;
  both["rope_parameters"] = new_spelling["rope_parameters"];
  EXPECT_EQ(read(both).config, config);
  both["rope_parameters"]["factor"] = 4.0;
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { read(both); }).find("disagree"), std::string::npos);
  both["rope_parameters"] = new_spelling["rope_parameters"];
  both["rope_theta"] = 10000.0;
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { read(both); }).find("rope_theta is given twice and differs"),
            std::string::npos);
  Json linear = tiny_json();
  linear["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  EXPECT_EQ(read(linear).config.rope_scaling, (RopeScaling{RopeType::linear, 2.0}));
}

TEST(ModelConfigTest, RopeThatIsNotKnownIsRefused) {
  expect_refused("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}, "RoPE type \"yarn\" is not supported");
  expect_refused("rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}, "RoPE type \"dynamic\"");
  expect_refused("rope_scaling", {{"type", "linear"}, {"rope_type", "llama3"}, {"factor", 4.0}},
                 "type is linear and rope_type is llama3");
  expect_refused("rope_scaling", {{"type", "linear"}}, "needs factor");
  expect_refused("rope_scaling", {{"type", "linear"}, {"factor", 0.5}}, "expected 1 or more");
  expect_refused("rope_scaling", {{"type", "linear"}, {"factor", "2"}}, "expected a number");
  expect_refused("rope_scaling",
                 {{"type", "llama3"},
                  {"factor", 2.0},
                  {"low_freq_factor", 4.0},
                  {"high_freq_factor", 1.0},
                  {"original_max_position_embeddings", 8192}},
                 "increasing");
  expect_refused("rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"beta_fast", 32}}, "beta_fast");
  expect_refused("rope_scaling", "linear", "is not a JSON object");
  expect_refused("rope_theta", 0, "rope_theta is 0");
  expect_refused("partial_rotary_factor", 0.5, "partial_rotary_factor");
}

TEST(ModelConfigTest, ModelsOfAnotherKindAreRefused) {
  expect_refused("architectures", {"GPTNeoXForCausalLM"}, "architecture GPTNeoXForCausalLM is not supported");
  expect_refused("architectures", "LlamaForCausalLM", "expected a list");
  expect_refused("model_type", "mistral", "model_type \"mistral\" is not supported");
  expect_refused("hidden_act", "gelu", "hidden_act \"gelu\" is not supported");
  expect_refused("attention_bias", true, "attention_bias is true");
  expect_refused("mlp_bias", true, "mlp_bias is true");
  expect_refused("quantization_config", {{"bits", 4}}, "quantised");
  expect_refused("torch_dtype", "int8", "dtype \"int8\"");
}

TEST(ModelConfigTest, SizesThatCannotBeAreRefused) {
  expect_refused("num_attention_heads", 7, "hidden_size 64 is not a multiple of num_attention_heads 7");
  expect_refused("num_key_value_heads", 3, "num_attention_heads 8 is not a multiple of num_key_value_heads 3");
  expect_refused("num_key_value_heads", 0, "num_key_value_heads is 0");
  expect_refused("num_attention_heads", 0, "num_attention_heads 0");
  expect_refused("num_attention_heads", 64, "head_dim 1 is odd");
  expect_refused("head_dim", 7, "head_dim 7 is odd");
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings"}) {
    expect_refused(key, 0, key);
    expect_refused(key, -64, key);
    expect_refused(key, int64_t{1} << 62, key);
    expect_refused(key, ~uint64_t{0}, key);
    expect_refused(key, 64.5, key);
    expect_refused(key, "64", key);
  }
  expect_refused("rms_norm_eps", -1.0, "rms_norm_eps");
  expect_refused("tie_word_embeddings", 1, "expected true or false");
  expect_refused("eos_token_id", 512, "eos_token_id 512 is outside the vocabulary of 512");
  expect_refused("eos_token_id", {2, -1}, "eos_token_id -1");
  expect_refused("bos_token_id", "1", "bos_token_id");
  Json json = tiny_json();
  json.erase("hidden_size");
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { read(json); }).find("has no hidden_size"), std::string::npos);
  error_message(ExitCode::bad_data, [] { read(Json::array()); });
}

TEST(ModelConfigTest, LeaderMapsAreCheckedAgainstTheLayers) {
  expect_refused("leader_map", {0, 1, 1}, "leader_map has 3 entries, num_hidden_layers is 5");
  for (const Json& map : {Json{0, 2, 2, 3, 4}, Json{0, 1, 1, 2, 4}, Json{1, 1, 2, 3, 4}, Json("0,1"), Json{0, 1, 2, 3, "4"}}) {
    Json json = tiny_json();
    json["leader_map"] = map;
    EXPECT_NE(error_message(ExitCode::config, [&] { read(json); }).find("config.json: leader_map"), std::string::npos)
        << map.dump();
  }
}

TEST(ModelConfigTest, TheIdentityOfAModelFollowsItsConfiguration) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", "{}");
  const TeacherIdentity first = identify_model(folder.path(), "name");
  EXPECT_EQ(first.name, "name");
  EXPECT_EQ(first.config_xxh3.size(), 16u);
  EXPECT_EQ(identify_model(folder.path(), "name"), first);
  write_file(folder / "config.json", "{ }");
  EXPECT_NE(identify_model(folder.path(), "name").config_xxh3, first.config_xxh3);
}

}  // namespace
}  // namespace echo
