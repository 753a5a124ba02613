// ./train from a user's point of view: messages, exit codes, files.
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "config/check.h"
#include "config/reading.h"
#include "nn/checkpoint_writer.h"
#include "nn/model_io.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/training_checkpoint.h"

namespace echo {
namespace {

class TrainProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_program("train");
    if (!found) GTEST_SKIP() << kNotBuilt;
    program_ = *found;
  }

  ProgramResult train(std::vector<std::string> arguments) const {
    ProgramOptions options;
    options.environment["OMP_NUM_THREADS"] = "1";
    return run_executable(program_, arguments, options);
  }
  // Writes the configuration to its own file, and adds the overrides.
  ProgramResult train(const TrainConfig& config, std::vector<std::string> overrides = {}) const {
    overrides.insert(overrides.begin(), written(config, folder_ / "config.yaml"));
    return train(overrides);
  }
  fs::path output() const { return folder_ / "run"; }

  TemporaryFolder folder_;
  fs::path program_;
};

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST_F(TrainProgramTest, ARunEndsWithModelAndReportAndItsLinesHaveTheFieldsOfTheLog) {
  const ProgramResult result = train(tiny_distillation(output()));
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  for (const char* text : {"1 of 4 layers follow (1 leads 2)", "step 12/12  stage 2  loss ", "tokens/s", "data wait", "peak",
                           "eta 0 s", "final", "report.html"})
    EXPECT_NE(result.output.find(text), std::string::npos) << text << " in " << result.output;
  EXPECT_EQ(CheckpointReader(output() / "final").leader_map(), LeaderMap({0, 1, 1, 3}));
  EXPECT_TRUE(fs::exists(output() / "report.html"));
  EXPECT_EQ(load_config(output() / "config.yaml"), tiny_distillation(output()));
}

TEST_F(TrainProgramTest, TheTinyLlamaRecipeWithoutWeightsStopsAtOnceAndSaysHowToGetThem) {
  if (fs::exists("models")) GTEST_SKIP() << "there is a folder models here";
  const ScopedEnvironment offline("HF_HUB_OFFLINE", "1"), cache("HF_HUB_CACHE", (folder_ / "cache").string());
  const auto start = std::chrono::steady_clock::now();
  const ProgramResult result = train({"configs/tinyllama_kd.yaml", "output_dir=" + output().string()});
  expect_failure(result, ExitCode::input_missing,
                 {"TinyLlama-1.1B-intermediate-step-1431k-3T", "teacher.model_name_or_path", "./download hf://TinyLlama"});
  // One second on an idle machine. A busy one gets more time.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(TrainProgramTest, MissingDataAndMissingConfigAreNamed) {
  expect_failure(train(tiny_distillation(output()), {"data.path=/no/such/corpus"}), ExitCode::input_missing,
                 {"/no/such/corpus", "data.path"});
  expect_failure(train({"/no/such.yaml"}), ExitCode::input_missing, {"/no/such.yaml"});
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(TrainProgramTest, ValidateDryRunAndRunSayTheSameOfAMissingInput) {
  const fs::path nowhere = folder_ / "nowhere";
  for (const char* key : {"teacher.model_name_or_path", "tokenizer", "data.path"}) {
    const std::string override = concat(key, "=", nowhere.string());
    const ProgramResult run = train(tiny_distillation(output()), {override});
    expect_failure(run, ExitCode::input_missing, {concat("error: ", key, ": ", nowhere.string())});
    const std::string message = run.errors.substr(7);  // after "error: "
    EXPECT_EQ(train(tiny_distillation(output()), {"--dry-run", override}).errors, run.errors);
    const ProgramResult validated = train(tiny_distillation(output()), {"--validate", override});
    expect_failure(validated, ExitCode::config, {"1 problem(s)"});
    EXPECT_EQ(validated.output, message);
  }
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(TrainProgramTest, ValidateReportsEveryProblemAndWritesNothing) {
  const ProgramResult fine = train(tiny_distillation(output()), {"--validate"});
  EXPECT_EQ(fine.exit_code, 0) << fine.errors;
  EXPECT_NE(fine.output.find("no problems found"), std::string::npos);
  const ProgramResult values =
      train(tiny_distillation(output()), {"--validate", "learning_rate=-1", "data.sequence_length=0", "sede=1"});
  expect_failure(values, ExitCode::config, {"3 problem(s)"});
  for (const char* text : {"learning_rate", "data.sequence_length", "seed"})
    EXPECT_NE(values.output.find(text), std::string::npos) << text;
  const ProgramResult files =
      train(tiny_distillation(output()), {"--validate", "data.path=/no/corpus", "teacher.model_name_or_path=/no/teacher"});
  expect_failure(files, ExitCode::config, {"2 problem(s)"});
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(TrainProgramTest, PrintedConfigurationReadsBackEqual) {
  const ProgramResult result = train(tiny_distillation(output()), {"--print-config", "seed=7"});
  EXPECT_EQ(result.exit_code, 0);
  TrainConfig expected = tiny_distillation(output());
  expected.seed = 7;
  EXPECT_EQ(read_config_text(result.output, "printed").config, expected);
}

TEST_F(TrainProgramTest, ADryRunPrintsAMemoryTableAndWritesNothing) {
  const ProgramResult result = train(tiny_distillation(output()), {"--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  for (const char* text : {"one step: loss", "memory (MiB)", "optimizer moments", "all tensors"})
    EXPECT_NE(result.output.find(text), std::string::npos) << text;
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(TrainProgramTest, AnotherProcessOnTheSameFolderIsTurnedAway) {
  fs::create_directories(output());
  const FileLock lock(output() / ".lock");
  expect_failure(train(tiny_distillation(output())), ExitCode::usage, {output().string()});
  EXPECT_EQ(names_in(output()), std::vector<std::string>{".lock"});
}

TEST_F(TrainProgramTest, ChangedSettingsOnAResumeAreNamed) {
  ASSERT_EQ(train(tiny_pretraining(output())).exit_code, 0);
  expect_failure(train(tiny_pretraining(output()), {"learning_rate=0.5", "seed=9"}), ExitCode::config,
                 {"learning_rate (0.003 -> 0.5)", "seed (42 -> 9)", "another output_dir"});
  EXPECT_EQ(train(tiny_pretraining(output()), {"logging_steps=3", "save_total_limit=1"}).exit_code, 0);
}

TEST_F(TrainProgramTest, ResumeFromAGivenCheckpointGoesOnThereAndNoneRefusesAFolderInUse) {
  const TrainConfig config = tiny_pretraining(output());
  ASSERT_EQ(train(config).exit_code, 0);
  const std::string weights = read_file(output() / "final/model.safetensors");
  const ProgramResult again = train(config, {"resume_from_checkpoint=" + (output() / "checkpoint-3").string()});
  EXPECT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_NE(again.output.find("step 3 of 6"), std::string::npos) << again.output;
  EXPECT_EQ(read_file(output() / "final/model.safetensors"), weights);
  expect_failure(train(config, {"resume_from_checkpoint=none"}), ExitCode::usage, {"already contains checkpoints"});
  expect_failure(train(config, {"resume_from_checkpoint=/no/checkpoint"}), ExitCode::input_missing, {"/no/checkpoint"});
}

TEST_F(TrainProgramTest, ADamagedNewestCheckpointIsSkippedAndTheRunEndsTheSame) {
  const TrainConfig config = tiny_distillation(output());
  ASSERT_EQ(train(config).exit_code, 0);
  const std::string weights = read_file(output() / "final/model.safetensors");
  fs::resize_file(output() / "checkpoint-12/model.safetensors", 1000);
  const ProgramResult again = train(config);
  EXPECT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_NE(again.output.find("skipping a damaged checkpoint"), std::string::npos) << again.output;
  EXPECT_NE(again.output.find("checkpoint-9"), std::string::npos) << again.output;
  EXPECT_EQ(read_file(output() / "final/model.safetensors"), weights);
}

TEST_F(TrainProgramTest, AFullDiskWhileSavingLeavesTheOldCheckpointIntact) {
  TrainConfig config = tiny_distillation(output());
  config.max_steps = 4;
  config.save_steps = 2;
  ASSERT_EQ(train(config).exit_code, 0);
  // Continues from step 2 of 8 with disk space for the log but not for the weights (100 KB): files are limited to 48 KiB.
  for (const char* later : {"checkpoint-4", "checkpoint-6", "checkpoint-8", "stage1", "final"})
    fs::remove_all(output() / later);
  const std::string file = written(config, folder_ / "config.yaml");
  const ProgramResult result =
      run_executable("/bin/bash", {"-c", "trap '' XFSZ; ulimit -f 48; exec \"$0\" \"$@\"", program_.string(), file}, {});
  expect_failure(result, ExitCode::io, {"model.safetensors", "writing failed"});
  const CheckpointSearch found = search_checkpoints(output());
  EXPECT_EQ(found.newest, output() / "checkpoint-2");
  EXPECT_TRUE(found.problems.empty());
  for (const std::string& name : names_in(output())) EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
  EXPECT_EQ(train(config).exit_code, 0);  // with room again
}

TEST_F(TrainProgramTest, LossesThatAreNotFiniteEndTheRunWithThePositionOfTheBatch) {
  // A start model in which one norm weight is NaN.
  const CheckpointReader teacher(tiny_inputs().teacher);
  const auto model = load_model(teacher, {.dtype = DType::f32, .requires_gradient = false});
  NamedTensors tensors;
  for (const NamedTensor& part : model->named_tensors()) {
    tensors.emplace_back(part.name, part.tensor.clone());
    if (part.name == "model.norm.weight") tensors.back().second.data<float>()[3] = std::nanf("");
  }
  save_model_folder(folder_ / "start", teacher.description(), tensors, {.tokenizer = tiny_inputs().tokenizer});
  TrainConfig config = tiny_pretraining(output());
  config.mode = settings::Mode::continue_training;
  config.student.model_name_or_path = folder_ / "start";
  expect_failure(train(config), ExitCode::numerical, {"step 3", "\"row\":", "learning_rate"});
  int skipped = 0;
  for (const auto& line : TrainingLog::read(output() / "trainer_log.jsonl")) skipped += line["event"] == "skipped";
  EXPECT_EQ(skipped, 3);
  EXPECT_FALSE(fs::exists(output() / "final"));
}

TEST_F(TrainProgramTest, ContinueTrainsTheStudentOfARunWithItsLeaderMap) {
  ASSERT_EQ(train(tiny_distillation(output())).exit_code, 0);
  TrainConfig config = tiny_pretraining(folder_ / "more");
  config.mode = settings::Mode::continue_training;
  config.student.model_name_or_path = output() / "final";
  const ProgramResult result = train(config);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(CheckpointReader(folder_ / "more/final").leader_map(), LeaderMap({0, 1, 1, 3}));
}

}  // namespace
}  // namespace echo
