// ./analyze from a user's point of view: files, messages, exit codes.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "nn/checkpoint_writer.h"
#include "nn/model_io.h"
#include "tests/nn/golden_values.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

class AnalyzeTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto program = find_program("analyze");
    if (!program) GTEST_SKIP() << kNotBuilt;
    const auto shared = shared_folder();
    if (!shared) GTEST_SKIP() << kNoSharedFolder;
    program_ = *program;
    shared_ = fs::absolute(*shared);
  }

  ProgramResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--output", output().string()});
    ProgramOptions options;
    options.environment = {{"ECHOATT_SHARED", shared_.string()}, {"OMP_NUM_THREADS", "1"}};
    return run_executable(program_, arguments, options);
  }
  ProgramResult run_model(const std::string& model, const std::string& data, int64_t samples, int64_t tokens) const {
    return run(
        {"--model", model, "--data", data, "--samples", std::to_string(samples), "--sequence-length", std::to_string(tokens)});
  }
  fs::path output() const { return folder_ / "analysis"; }
  nlohmann::json analysis() const { return nlohmann::json::parse(read_file(output() / "analysis.json")); }

  TemporaryFolder folder_;
  fs::path program_, shared_;
};

// The data of the reference's similarities.
constexpr const char* kGoldenText = "corpora/imdb_sample.jsonl.zst";

// Documents in file order, with the begin token first, cut to length: the rows, and so the figures, of the reference.
TEST_F(AnalyzeTest, FiguresOfARealModelEqualTheReference) {
  for (const char* name : {"stories260K", "stories12L"}) {
    SCOPED_TRACE(name);
    const nlohmann::json expected = GoldenValues(shared_, name).values.at("similarity");
    const ProgramResult result = run_model(std::string("models/") + name, kGoldenText, int64_t(expected.at("rows").size()),
                                           int64_t(expected.at("rows").at(0).size()));
    ASSERT_EQ(result.exit_code, 0) << result.errors;
    const nlohmann::json found = analysis();
    EXPECT_EQ(found.at("samples"), expected.at("rows").size());
    EXPECT_EQ(found.at("tokens_per_sample"), expected.at("rows").at(0).size());
    for (const char* variant : {"flat", "per_head", "per_row", "no_first_column"})
      for (const char* statistic : {"mean", "standard_error"}) {
        const auto values = found.at("similarity").at(variant).at(statistic).get<std::vector<std::vector<double>>>();
        const auto reference = expected.at(variant).at(statistic).get<std::vector<std::vector<double>>>();
        ASSERT_EQ(values.size(), reference.size());
        for (size_t i = 0; i < values.size(); ++i)
          for (size_t j = 0; j < values.size(); ++j)
            EXPECT_NEAR(values[i][j], reference[i][j], 1e-5) << variant << " " << statistic << " " << i << " " << j;
      }
  }
}

TEST_F(AnalyzeTest, WritesItsThreeFilesAndPrintsRankingAndPlans) {
  const ProgramResult result = run_model("models/stories12L", "corpora/tinystories", 3, 100);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  for (const char* file : {"analysis.json", "similarity.svg", "report.html"}) {
    EXPECT_TRUE(fs::exists(output() / file)) << file;
    EXPECT_NE(result.output.find(file), std::string::npos) << file;
  }
  const nlohmann::json found = analysis();
  EXPECT_EQ(found.at("model"), "models/stories12L");
  EXPECT_EQ(found.at("data"), "corpora/tinystories");
  EXPECT_EQ(found.at("ranking").size(), 12u);
  EXPECT_EQ(found.at("layer_mean").size(), 12u);
  EXPECT_TRUE(found.contains("largest_gap") && found.contains("unchanged"));
  ASSERT_FALSE(found.at("plans").empty());
  for (const nlohmann::json& plan : found.at("plans")) {
    EXPECT_EQ(plan.at("leader_map").size(), 12u);
    // D (H + Hkv) Dh per follower
    EXPECT_EQ(plan.at("parameters_removed").get<int64_t>(), plan.at("followers").get<int64_t>() * 128 * (8 + 4) * 16);
    EXPECT_TRUE(plan.contains("mean_similarity") && plan.contains("min_similarity") && plan.contains("name"));
    EXPECT_NE(result.output.find(plan.at("name").get<std::string>()), std::string::npos) << plan.at("name");
  }
  const std::string page = read_file(output() / "report.html");
  for (const char* from_elsewhere : {"<script src", "<link ", "<img src=\"http"})
    EXPECT_EQ(page.find(from_elsewhere), std::string::npos) << from_elsewhere;
}

// A student's followers have a similarity of 1 to their leader.
TEST_F(AnalyzeTest, AStudentIsAnalysedWithItsSharedMatrices) {
  const GoldenValues golden(shared_, "stories260K");
  const CheckpointReader checkpoint(golden.model);
  ModelDescription description = checkpoint.description();
  description.leader_map = golden.leader_map;
  const auto student = load_student(checkpoint, golden.leader_map, {DType::f32, false});
  NamedTensors tensors;
  for (NamedTensor& tensor : student->named_tensors()) tensors.emplace_back(tensor.name, tensor.tensor);
  SaveOptions options;
  options.tokenizer = golden.model / "tokenizer.model";
  save_model_folder(folder_ / "student", description, tensors, options);
  const ProgramResult result = run_model((folder_ / "student").string(), "corpora/tinystories", 2, 64);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const nlohmann::json mean = analysis().at("similarity").at("flat").at("mean");
  for (size_t i = 0; i < 5; ++i)
    for (size_t j = 0; j < 5; ++j)
      if (golden.leader_map.leader(int64_t(i)) == golden.leader_map.leader(int64_t(j)))
        EXPECT_NEAR(mean.at(i).at(j).get<double>(), 1, 1e-6) << i << " " << j;
      else
        EXPECT_LT(mean.at(i).at(j).get<double>(), 0.99) << i << " " << j;
}

TEST_F(AnalyzeTest, FewerDocumentsThanAskedForAreUsedAndCounted) {
  write_file_atomically(folder_ / "two.txt", "Once upon a time, there was a little girl named Lily.");
  ASSERT_EQ(run_model("models/stories260K", (folder_ / "two.txt").string(), 7, 8).exit_code, 0);
  EXPECT_EQ(analysis().at("samples"), 1);
  EXPECT_TRUE(analysis().at("similarity").at("flat").at("standard_error").is_null());
}

TEST_F(AnalyzeTest, PlansFromAStoredMatrixWithoutAModel) {
  const ProgramResult result = run({"--matrix", (shared_ / "golden/paper.json").string()});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(analysis().at("ranking").size(), 22u);
  EXPECT_TRUE(fs::exists(output() / "report.html"));
}

TEST_F(AnalyzeTest, MistakesAreNamedAndNothingIsWritten) {
  const std::string model = "models/stories260K", data = "corpora/tinystories";
  expect_failure(run_model("models/nowhere", data, 2, 64), ExitCode::input_missing, {"models/nowhere"});
  expect_failure(run_model(model, "corpora/nowhere", 2, 64), ExitCode::input_missing, {"corpora/nowhere"});
  expect_failure(run_model(model, data, 2, 513), ExitCode::usage, {"2 to 512"});
  expect_failure(run_model(model, data, 0, 64), ExitCode::usage, {"--samples"});
  write_file_atomically(folder_ / "short.txt", "Too short.");
  expect_failure(run_model(model, (folder_ / "short.txt").string(), 2, 64), ExitCode::bad_data, {"no document has 64 tokens"});
  expect_failure(run({}), ExitCode::usage, {"--model"});
  expect_failure(run({"--model", model}), ExitCode::usage, {"--data"});
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(AnalyzeTest, DamagedWeightsAreNotAnalysed) {
  const CheckpointReader checkpoint(shared_ / "models/stories260K");
  const auto model = load_model(checkpoint, {DType::f32, false});
  NamedTensors tensors;
  for (NamedTensor& tensor : model->named_tensors()) {
    if (tensor.name == layer_weight(2, "self_attn.k_proj")) tensor.tensor.data<float>()[0] = std::nanf("");
    tensors.emplace_back(tensor.name, tensor.tensor);
  }
  SaveOptions options;
  options.tokenizer = checkpoint.folder() / "tokenizer.model";
  save_model_folder(folder_ / "damaged", checkpoint.description(), tensors, options);
  expect_failure(run_model((folder_ / "damaged").string(), "corpora/tinystories", 2, 64), ExitCode::numerical, {"not finite"});
}

}  // namespace
}  // namespace echo
