#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/random.h"
#include "base/strict_json.h"
#include "nn/checkpoint_reader.h"
#include "nn/checkpoint_writer.h"
#include "tests/test_support.h"
#include "weight_files/safetensors.h"
#include "weight_files/torch_archive.h"

namespace echo {
namespace {

ModelDescription tiny_model(std::vector<int64_t> leaders = {0, 1, 2, 3}, bool tied = false) {
  LlamaConfig config;
  config.vocab_size = 32;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = int64_t(leaders.size());
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 2;
  config.bos_token_id = 1;
  config.eos_token_id = {2};
  config.tie_word_embeddings = tied;
  return {config, LeaderMap(std::move(leaders)), std::nullopt};
}

NamedTensors random_weights(const ModelDescription& model) {
  NamedTensors tensors;
  RandomSequence random(5);
  for (const WeightShape& weight : weight_shapes(model.config, model.leader_map)) {
    std::vector<float> values(size_t(weight.shape.elements()));
    for (float& value : values) value = float(random.normal());
    tensors.emplace_back(weight.name, Tensor::from(values, weight.shape));
  }
  return tensors;
}

// The tensors except the one with this name. For tests of incomplete folders.
NamedTensors without(NamedTensors tensors, const std::string& name) {
  std::erase_if(tensors, [&](const auto& entry) { return entry.first == name; });
  return tensors;
}

// A folder with this config.json and exactly these tensors.
void write_folder(const TemporaryFolder& folder, const ModelDescription& model, const NamedTensors& tensors) {
  write_file_atomically(folder / "config.json", to_json(model).dump());
  write_safetensors(folder / "model.safetensors", tensors);
}

std::string check_refusal(const ModelDescription& model, const NamedTensors& tensors) {
  const TemporaryFolder folder;
  write_folder(folder, model, tensors);
  return error_message(ExitCode::bad_data, [&] { CheckpointReader(folder.path()).check(); });
}

void expect_holds(const CheckpointReader& reader, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) EXPECT_EQ(reader.read(name).to_vector<float>(), tensor.to_vector<float>()) << name;
}

TEST(WeightNamesTest, FollowersHaveNoQueryAndKeyProjection) {
  const ModelDescription model = tiny_model({0, 1, 1, 3});
  std::set<std::string> names;
  int64_t elements = 0;
  for (const WeightShape& weight : weight_shapes(model.config, model.leader_map)) {
    EXPECT_TRUE(names.insert(weight.name).second) << weight.name;
    elements += weight.shape.elements();
  }
  EXPECT_EQ(elements, parameter_count(model.config, model.leader_map));
  EXPECT_TRUE(names.contains("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_FALSE(names.contains("model.layers.2.self_attn.q_proj.weight"));
  EXPECT_FALSE(names.contains("model.layers.2.self_attn.k_proj.weight"));
  EXPECT_TRUE(names.contains("model.layers.2.self_attn.v_proj.weight"));
  EXPECT_TRUE(names.contains("lm_head.weight"));
  EXPECT_EQ(names.size(), 3u + 4 * 9 - 2);
}

TEST(WeightNamesTest, ATiedModelHasNoHead) {
  const ModelDescription model = tiny_model({0, 1}, true);
  int64_t elements = 0;
  for (const WeightShape& weight : weight_shapes(model.config, model.leader_map)) {
    EXPECT_NE(weight.name, kHeadWeight);
    elements += weight.shape.elements();
  }
  EXPECT_EQ(elements, parameter_count(model.config, model.leader_map));
}

TEST(CheckpointTest, TheSmallModelsOpenWithTheExpectedShapes) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  const CheckpointReader small(*shared / "models/stories260K"), large(*shared / "models/stories12L");
  small.check();
  large.check();
  // Tied: both names give the one matrix that is stored.
  EXPECT_TRUE(small.has(std::string(kHeadWeight)));
  EXPECT_EQ(small.read("lm_head.weight").to_vector<float>(), small.read("model.embed_tokens.weight").to_vector<float>());
  EXPECT_EQ(small.info("lm_head.weight").shape, (Shape{512, 64}));
  EXPECT_FALSE(small.has("model.layers.5.input_layernorm.weight"));
}

TEST(CheckpointTest, Bfloat16WeightsArriveBitForBitAndWidenedExactly) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  const CheckpointReader reader(*shared / "models/stories12L");
  const std::string file = read_file(*shared / "models/stories12L/model.safetensors");
  uint64_t header;
  std::memcpy(&header, file.data(), 8);
  const auto entries = nlohmann::json::parse(file.substr(8, header));
  for (const char* name : {"model.embed_tokens.weight", "model.layers.11.self_attn.q_proj.weight", "model.norm.weight"}) {
    const Tensor stored = reader.read(name);
    ASSERT_EQ(stored.dtype(), DType::bf16);
    Tensor wide = Tensor::empty(stored.shape(), DType::f32);
    reader.read_into(name, wide);
    const uint64_t begin = 8 + header + entries[name]["data_offsets"][0].get<uint64_t>();
    for (int64_t i = 0; i < stored.elements(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, file.data() + begin + 2 * i, 2);
      ASSERT_EQ(stored.data<bfloat16>()[i].bits, bits) << name << ' ' << i;
      ASSERT_EQ(std::bit_cast<uint32_t>(wide.data<float>()[i]), uint32_t{bits} << 16) << name << ' ' << i;
    }
  }
}

TEST(CheckpointTest, AStudentSavedInAnyFormIsReadBackEqual) {
  ModelDescription model = tiny_model({0, 1, 1, 3});
  model.teacher = TeacherIdentity{"teacher", "0123456789abcdef"};
  const NamedTensors weights = random_weights(model);
  for (const WeightFormat format : {WeightFormat::safetensors, WeightFormat::torch_archive})
    for (const int64_t max_shard_bytes : {int64_t{5'000'000'000}, int64_t{2000}}) {
      const TemporaryFolder parent;
      SaveOptions options;
      options.format = format;
      options.max_shard_bytes = max_shard_bytes;
      save_model_folder(parent / "model", model, weights, options);
      const CheckpointReader reader(parent / "model");
      reader.check();
      expect_holds(reader, weights);
      EXPECT_EQ(reader.config(), model.config);
      EXPECT_EQ(reader.leader_map(), model.leader_map);
      EXPECT_EQ(reader.description().teacher, model.teacher);
      const bool single = max_shard_bytes > 2000;
      const std::string stem = format == WeightFormat::safetensors ? "model" : "pytorch_model";
      const std::string extension = format == WeightFormat::safetensors ? ".safetensors" : ".bin";
      EXPECT_EQ(fs::exists(parent / "model" / (stem + extension)), single);
      EXPECT_EQ(fs::exists(parent / "model" / (stem + extension + ".index.json")), !single);
    }
}

TEST(CheckpointTest, ShardsKeepTheirLimitAndTheirNumber) {
  const ModelDescription model = tiny_model();
  const NamedTensors weights = random_weights(model);
  const TemporaryFolder parent;
  SaveOptions limited, counted;
  limited.max_shard_bytes = 2000;
  counted.shards = 3;
  save_model_folder(parent / "limited", model, weights, limited);
  save_model_folder(parent / "counted", model, weights, counted);
  int64_t total = 0;
  for (const auto& entry : fs::directory_iterator(parent / "limited"))
    if (entry.path().extension() == ".safetensors") {
      const SafetensorsReader shard(entry.path());
      EXPECT_EQ(shard.metadata().at("format"), "pt");
      int64_t bytes = 0;
      for (const StoredTensor& tensor : shard.tensors()) bytes += tensor.bytes();
      EXPECT_LE(bytes, 2000);
      total += bytes;
    }
  EXPECT_EQ(total, 4 * parameter_count(model.config, model.leader_map));
  const auto index = parse_strict_json(read_file(parent / "limited" / "model.safetensors.index.json"), "index");
  EXPECT_EQ(index["metadata"]["total_size"], total);
  EXPECT_TRUE(fs::exists(parent / "counted" / "model-00003-of-00003.safetensors"));
}

TEST(CheckpointTest, WeightsAreStoredInTheDtypeOfTheConfig) {
  ModelDescription model = tiny_model();
  model.config.dtype = DType::bf16;
  const NamedTensors weights = random_weights(model);
  const TemporaryFolder parent;
  save_model_folder(parent / "model", model, weights);
  const CheckpointReader reader(parent / "model");
  for (const auto& [name, tensor] : weights) {
    const std::vector<bfloat16> stored = reader.read(name).to_vector<bfloat16>();
    for (int64_t i = 0; i < tensor.elements(); ++i)
      ASSERT_EQ(stored[size_t(i)].bits, bfloat16(tensor.data<float>()[i]).bits) << name;
  }
}

TEST(CheckpointTest, TheTokenizerIsCopiedAndTheEndTokensAreWritten) {
  const ModelDescription model = tiny_model();
  const TemporaryFolder parent;
  write_file_atomically(parent / "some.model", std::string("tokens\0\x01", 8));
  SaveOptions options;
  options.tokenizer = parent / "some.model";
  save_model_folder(parent / "model", model, random_weights(model), options);
  EXPECT_EQ(read_file(parent / "model" / "tokenizer.model"), read_file(parent / "some.model"));
  const auto generation = parse_strict_json(read_file(parent / "model" / "generation_config.json"), "file");
  EXPECT_EQ(generation["bos_token_id"], 1);
  EXPECT_EQ(generation["eos_token_id"], 2);
}

TEST(CheckpointTest, AFolderThatHoldsSomethingIsNotWrittenInto) {
  const ModelDescription model = tiny_model();
  const TemporaryFolder folder;
  write_file_atomically(folder / "notes.txt", "mine");
  error_message(ExitCode::usage, [&] { save_model_folder(folder.path(), model, random_weights(model)); });
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  error_message(ExitCode::io, [&] { save_model_folder(folder / "no" / "parent", model, random_weights(model)); });
}

TEST(CheckpointTest, AnErrorWhileSavingLeavesNoFilesBehind) {
  const ModelDescription model = tiny_model();
  const TensorProvider failing = [](const TensorDescription& tensor) {
    if (tensor.name == kFinalNormWeight) fail(ExitCode::io, "disk full");
    return Tensor::zeros(tensor.shape, tensor.dtype);
  };
  const TemporaryFolder parent;
  fs::create_directory(parent / "empty");
  for (const WeightFormat format : {WeightFormat::safetensors, WeightFormat::torch_archive}) {
    SaveOptions options;
    options.format = format;
    EXPECT_EQ(error_message(ExitCode::io, [&] { save_model_folder(parent / "new", model, failing, options); }), "disk full");
    EXPECT_EQ(error_message(ExitCode::io, [&] { save_model_folder(parent / "empty", model, failing, options); }), "disk full");
    EXPECT_FALSE(fs::exists(parent / "new"));
    EXPECT_TRUE(fs::is_empty(parent / "empty"));
  }
}

TEST(CheckpointTest, ATiedModelMayStoreEitherNameOrBothIfEqual) {
  const ModelDescription model = tiny_model({0, 1}, true);
  const NamedTensors weights = random_weights(model);
  const Tensor embedding = weights.front().second;
  NamedTensors as_head = weights, both = weights, different = weights;
  as_head.front().first = kHeadWeight;
  both.emplace_back(kHeadWeight, embedding);
  different.emplace_back(kHeadWeight, Tensor::zeros(embedding.shape(), DType::f32));
  for (const NamedTensors& stored : {weights, as_head, both}) {
    const TemporaryFolder folder;
    write_folder(folder, model, stored);
    const CheckpointReader reader(folder.path());
    reader.check();
    EXPECT_EQ(reader.read(std::string(kEmbeddingWeight)).to_vector<float>(), embedding.to_vector<float>());
    EXPECT_EQ(reader.read(std::string(kHeadWeight)).to_vector<float>(), embedding.to_vector<float>());
  }
  EXPECT_NE(check_refusal(model, different).find("lm_head.weight differ"), std::string::npos);
  const std::string message = check_refusal(model, without(weights, std::string(kEmbeddingWeight)));
  expect_contains(message, "1 missing: model.embed_tokens.weight");
}

TEST(CheckpointTest, AnUntiedModelNeedsItsHead) {
  const ModelDescription model = tiny_model();
  const NamedTensors weights = without(random_weights(model), std::string(kHeadWeight));
  EXPECT_NE(check_refusal(model, weights).find("1 missing: lm_head.weight"), std::string::npos);
}

TEST(CheckpointTest, MissingExtraAndMisshapenTensorsAreNamedAndCounted) {
  const ModelDescription model = tiny_model();
  NamedTensors weights = without(random_weights(model), "model.layers.2.mlp.up_proj.weight");
  weights.emplace_back("model.layers.0.self_attn.q_proj.bias", Tensor::zeros({8}, DType::f32));
  for (auto& [name, tensor] : weights)
    if (name == kFinalNormWeight) tensor = Tensor::zeros({9}, DType::f32);
  const std::string message = check_refusal(model, weights);
  expect_contains(message, "1 missing: model.layers.2.mlp.up_proj.weight");
  expect_contains(message, "1 not expected: model.layers.0.self_attn.q_proj.bias");
  expect_contains(message, "model.norm.weight is F32 (9), expected floats (8)");
  for (int layer = 0; layer < 4; ++layer)
    for (const char* part : {"mlp.gate_proj", "mlp.down_proj"}) weights = without(weights, layer_weight(layer, part));
  EXPECT_NE(check_refusal(model, weights).find("9 missing: "), std::string::npos);
  EXPECT_NE(check_refusal(model, weights).find(" and 4 more; "), std::string::npos);
}

TEST(CheckpointTest, StoredRotaryFrequenciesAreIgnored) {
  const ModelDescription model = tiny_model();
  NamedTensors weights = random_weights(model);
  weights.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", Tensor::zeros({1}, DType::f32));
  const TemporaryFolder folder;
  write_folder(folder, model, weights);
  CheckpointReader(folder.path()).check();
}

TEST(CheckpointTest, ATeacherServesAsTheSourceOfAStudentOnlyWhenAskedFor) {
  const ModelDescription teacher = tiny_model();
  const LeaderMap map({0, 1, 1, 1});
  const TemporaryFolder folder;
  write_folder(folder, teacher, random_weights(teacher));
  const CheckpointReader reader(folder.path());
  const std::vector<WeightShape> student = weight_shapes(teacher.config, map);
  const std::string message = error_message(ExitCode::bad_data, [&] { reader.check(student); });
  expect_contains(message, "4 not expected: model.layers.2.self_attn.k_proj.weight");
  reader.check(student, {.allow_unused = true});
}

TEST(CheckpointTest, AStudentLacksWhatItsTeacherNeeds) {
  const ModelDescription student = tiny_model({0, 1, 1, 3});
  const TemporaryFolder folder;
  write_folder(folder, student, random_weights(student));
  const CheckpointReader reader(folder.path());
  reader.check();
  EXPECT_FALSE(reader.has("model.layers.2.self_attn.q_proj.weight"));
  const std::string message =
      error_message(ExitCode::bad_data, [&] { reader.check(weight_shapes(student.config, LeaderMap::own(4))); });
  EXPECT_NE(message.find("2 missing: model.layers.2.self_attn.q_proj.weight, model.layers.2.self_attn.k_proj.weight"),
            std::string::npos)
      << message;
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { reader.read("model.layers.2.self_attn.q_proj.weight"); }).find("no tensor"),
            std::string::npos);
}

TEST(CheckpointTest, MissingFoldersAndFilesAreNamed) {
  const auto missing = [](const fs::path& path) {
    return error_message(ExitCode::input_missing, [&] { CheckpointReader reader(path); });
  };
  EXPECT_NE(missing("no/such/model").find("no/such/model: no such folder"), std::string::npos);
  const TemporaryFolder folder;
  EXPECT_NE(missing(folder.path()).find("holds no config.json"), std::string::npos);
  write_file_atomically(folder / "config.json", to_json(tiny_model()).dump());
  EXPECT_NE(missing(folder.path()).find("looked for model.safetensors, model.safetensors.index.json, pytorch_model.bin"),
            std::string::npos);
  write_file_atomically(folder / "model.safetensors.index.json",
                        R"({"weight_map": {"a": "model-00001-of-00001.safetensors"}})");
  EXPECT_NE(missing(folder.path()).find("model-00001-of-00001.safetensors: is missing"), std::string::npos);
}

TEST(CheckpointTest, IndexesThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "config.json", to_json(tiny_model()).dump());
  write_safetensors(folder / "one.safetensors", {{"a", Tensor::zeros({1}, DType::f32)}, {"b", Tensor::zeros({1}, DType::f32)}});
  write_safetensors(folder / "two.safetensors", {{"a", Tensor::zeros({1}, DType::f32)}});
  const auto expect_refused = [&](const std::string& index, const std::string& reason) {
    write_file_atomically(folder / "model.safetensors.index.json", index);
    const std::string message = error_message(ExitCode::bad_data, [&] { CheckpointReader reader(folder.path()); });
    expect_contains(message, reason);
  };
  expect_refused("{", "is not valid JSON");
  expect_refused("{}", "has no weight_map");
  expect_refused(R"({"weight_map": []})", "has no weight_map");
  expect_refused(R"({"weight_map": {}})", "has no weight_map");
  expect_refused(R"({"weight_map": {"a": 1}})", "tensor a is not a text");
  expect_refused(R"({"weight_map": {"a": "../one.safetensors"}})", "not the name of a .safetensors file");
  expect_refused(R"({"weight_map": {"a": "/etc/passwd"}})", "not the name of a .safetensors file");
  expect_refused(R"({"weight_map": {"a": "one.bin"}})", "not the name of a .safetensors file");
  expect_refused(R"({"weight_map": {"a": ""}})", "not the name of a .safetensors file");
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "a": "one.safetensors"}})", "occurs twice");
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "c": "one.safetensors"}})", "tensor c is not in one.safetensors");
  expect_refused(R"({"weight_map": {"a": "one.safetensors"}})", "tensor b of one.safetensors is not listed");
  expect_refused(R"({"weight_map": {"a": "two.safetensors", "b": "one.safetensors"}})",
                 "tensor a of one.safetensors is not listed");
}

TEST(CheckpointTest, APointerInPlaceOfTheWeightsIsRecognised) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "config.json", to_json(tiny_model()).dump());
  write_file_atomically(folder / "pytorch_model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { CheckpointReader reader(folder.path()); }).find("git lfs pull"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
