// ./generate from a user's point of view: text, timings, messages, exit codes.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

#include "base/file.h"
#include "nn/checkpoint_writer.h"
#include "nn/model_io.h"
#include "tests/nn/golden_values.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

class GenerateTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto program = find_program("generate");
    if (!program) GTEST_SKIP() << kNotBuilt;
    const auto shared = shared_folder();
    if (!shared) GTEST_SKIP() << kNoSharedFolder;
    program_ = *program;
    shared_ = fs::absolute(*shared);
  }

  ProgramResult run(const std::string& model, const std::string& prompt, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"--model", model, "--prompt", prompt};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  // In f32, like the references, even if there is a GPU.
  ProgramResult run(std::vector<std::string> arguments) const {
    if (std::find(arguments.begin(), arguments.end(), "--dtype") == arguments.end())
      arguments.insert(arguments.end(), {"--dtype", "float32"});
    ProgramOptions options;
    options.environment = {{"ECHOATT_SHARED", shared_.string()}, {"OMP_NUM_THREADS", "1"}};
    return run_executable(program_, arguments, options);
  }

  // A model of random weights with the vocabulary of stories260K, of `positions` positions and without an end token.
  fs::path tiny_model(int64_t positions, std::optional<int64_t> vocabulary = {}) const {
    ModelDescription description;
    LlamaConfig& config = description.config;
    config.vocab_size = vocabulary.value_or(512), config.hidden_size = 16, config.intermediate_size = 24,
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2, config.num_key_value_heads = 1, config.head_dim = 8,
    config.max_position_embeddings = positions;
    config.bos_token_id = 1;
    description.leader_map = LeaderMap({0, 0});
    const auto model = make_model(config, description.leader_map, {DType::f32, false});
    initialize(*model, 0.5, 3);
    return save(*model, description, "tiny");
  }
  fs::path save(const LanguageModel& model, const ModelDescription& description, const std::string& name) const {
    NamedTensors tensors;
    for (NamedTensor& tensor : model.named_tensors()) tensors.emplace_back(tensor.name, tensor.tensor);
    SaveOptions options;
    options.tokenizer = shared_ / "models/stories260K/tokenizer.model";
    save_model_folder(folder_ / name, description, tensors, options);
    return folder_ / name;
  }

  TemporaryFolder folder_;
  fs::path program_, shared_;
};

void expect_usage_error(const ProgramResult& result, const std::string& text) {
  expect_failure(result, ExitCode::usage, {text});
  EXPECT_EQ(result.output, "");
  EXPECT_TRUE(result.errors.starts_with("error: ")) << result.errors;
}

TEST_F(GenerateTest, SeveralPromptsAreContinuedTogether) {
  const std::string model = tiny_model(64).string();
  const std::vector<std::string> more = {"--max-new-tokens", "9", "--temperature", "1"};
  const ProgramResult one = run(model, "once upon a time", more);
  std::vector<std::string> two = {"--model", model, "--prompt", "once upon a time", "--prompt", "the"};
  two.insert(two.end(), more.begin(), more.end());
  const ProgramResult both = run(two);
  ASSERT_EQ(both.exit_code, 0) << both.errors;
  EXPECT_EQ(both.output.substr(0, one.output.size()), one.output);
  EXPECT_EQ(both.output.substr(one.output.size(), 3), "the");
}

TEST_F(GenerateTest, WritesTheReferencesTextAndNothingElseAndOneLineOfTimings) {
  const GoldenValues golden(shared_, "stories260K");
  const nlohmann::json& greedy = golden.values.at("greedy");
  const ProgramResult result = run("models/stories260K", greedy.at("prompt"), {"--max-new-tokens", "120"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.output, greedy.at("teacher_text").get<std::string>() + "\n");
  EXPECT_TRUE(std::regex_match(result.errors, std::regex("device: [^\n]+\nload [0-9.]+ s \\| prefill 5 tokens, [0-9]+ tokens/s "
                                                         "\\| decode 119 tokens, [0-9]+ tokens/s\n")))
      << result.errors;
}

TEST_F(GenerateTest, WritesAStudentsText) {
  const GoldenValues golden(shared_, "stories12L");
  const CheckpointReader checkpoint(golden.model);
  ModelDescription description = checkpoint.description();
  description.leader_map = golden.leader_map;
  const fs::path student = save(*load_student(checkpoint, golden.leader_map, {DType::f32, false}), description, "student");
  const ProgramResult result = run(student.string(), "Once upon a time", {"--max-new-tokens", "120"});
  EXPECT_EQ(result.output, golden.values.at("greedy").at("student_text").get<std::string>() + "\n") << result.errors;
}

TEST_F(GenerateTest, TheSeedDecidesASampledText) {
  const auto text = [&](const std::string& seed) {
    return run("models/stories260K", "One day", {"--temperature", "1", "--top-k", "50", "--top-p", "0.95", "--seed", seed})
        .output;
  };
  const std::string first = text("1");
  EXPECT_TRUE(first.starts_with("One day")) << first;
  EXPECT_EQ(text("1"), first);
  EXPECT_NE(text("2"), first);
}

TEST_F(GenerateTest, AnEmptyPromptBeginsWithTheBeginToken) {
  for (const ProgramResult& result : {run("models/stories12L", "", {"--max-new-tokens", "5"}),
                                      run({"--model", "models/stories12L", "--max-new-tokens", "5"})}) {
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_EQ(result.output, "Once upon a time,\n");
  }
}

TEST_F(GenerateTest, Bf16WritesText) {
  const ProgramResult result = run("models/stories12L", "Once upon a time", {"--max-new-tokens", "8", "--dtype", "bfloat16"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_TRUE(result.output.starts_with("Once upon a time, there was")) << result.output;
}

TEST_F(GenerateTest, StopsAtTheModelsLastPositionWithANote) {
  const fs::path model = tiny_model(32);
  const ProgramResult result = run(model.string(), "Once upon a time", {"--max-new-tokens", "100"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_NE(result.errors.find("note: stopped at 32 positions"), std::string::npos) << result.errors;
  EXPECT_NE(result.errors.find("decode 26 tokens"), std::string::npos) << result.errors;  // 5 of the prompt, 27 new
  EXPECT_EQ(run(model.string(), "Once upon a time", {"--max-new-tokens", "27"}).errors.find("note"), std::string::npos);
}

TEST_F(GenerateTest, APromptThatFillsTheModelIsRefused) {
  std::string prompt;
  for (int i = 0; i < 30; ++i) prompt += "once ";
  expect_usage_error(run(tiny_model(32).string(), prompt), "at most 32");
}

TEST_F(GenerateTest, OptionsOutOfRangeAreRefused) {
  for (const auto& [option, value] :
       std::vector<std::pair<std::string, std::string>>{{"--temperature", "-1"},
                                                        {"--temperature", "nan"},
                                                        {"--temperature", "warm"},
                                                        {"--temperature", "inf"},
                                                        {"--top-p", "0"},
                                                        {"--top-p", "1.5"},
                                                        {"--top-p", "nan"},
                                                        {"--top-k", "-3"},
                                                        {"--top-k", "2.5"},
                                                        {"--seed", "-3"},
                                                        {"--max-new-tokens", "-1"},
                                                        {"--max-new-tokens", "many"},
                                                        {"--max-new-tokens", "99999999999999999999"},
                                                        {"--dtype", "float16"},
                                                        {"--wrong", "1"}})
    expect_usage_error(run("models/stories260K", "x", {option, value}), option);
  expect_usage_error(run(std::vector<std::string>{"--prompt", "x"}), "--model is required");
}

TEST_F(GenerateTest, AMissingModelIsNamedWithThePlacesLookedAt) {
  const ProgramResult result = run("models/nowhere", "x");
  EXPECT_EQ(result.exit_code, int(ExitCode::input_missing));
  EXPECT_EQ(result.output, "");
  for (const std::string& text : {std::string("models/nowhere"), (shared_ / "models/nowhere").string()})
    EXPECT_NE(result.errors.find(text), std::string::npos) << result.errors;
}

TEST_F(GenerateTest, ATokenizerOfAnotherVocabularyIsRefused) {
  const ProgramResult result = run(tiny_model(32, 500).string(), "x");
  EXPECT_EQ(result.exit_code, int(ExitCode::bad_data));
  EXPECT_NE(result.errors.find("512 pieces, but config.json says vocab_size 500"), std::string::npos) << result.errors;
}

TEST_F(GenerateTest, AFullDiskIsNotTakenForSuccess) {
  const std::string command = "exec '" + program_.string() + "' --model models/stories260K --prompt x > /dev/full";
  ProgramOptions options;
  options.environment = {{"ECHOATT_SHARED", shared_.string()}, {"OMP_NUM_THREADS", "1"}};
  const ProgramResult result = run_executable("/bin/sh", {"-c", command}, options);
  EXPECT_EQ(result.exit_code, int(ExitCode::io)) << result.errors;
}

}  // namespace
}  // namespace echo
