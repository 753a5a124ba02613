#include "training/trainer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "nn/model_io.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/run_folder.h"

namespace echo {
namespace {

using nlohmann::json;

// Trains to the end, from a checkpoint if one is given, or until `stop_after` steps.
void train(TrainConfig config, std::optional<fs::path> checkpoint = {}, int64_t stop_after = -1) {
  RunFolder folder(config);
  SetupOptions setup;
  setup.checkpoint = checkpoint;
  TrainingRun run = prepare_run(config, resolve_inputs(config), setup);
  const Trainer* running = nullptr;
  Trainer trainer(run, folder, [&] { return stop_after >= 0 && running->state().step >= stop_after; });
  running = &trainer;
  if (checkpoint) trainer.resume(*checkpoint);
  trainer.train();
}

std::vector<json> events(const fs::path& run, const std::string& event) {
  std::vector<json> found;
  for (json& line : TrainingLog::read(run / "trainer_log.jsonl"))
    if (line["event"] == event) found.push_back(std::move(line));
  return found;
}

TEST(TrainerTest, ARunLeavesItsFoldersLogAndReport) {
  const TemporaryFolder folder;
  train(tiny_distillation(folder / "run"));
  for (const char* name :
       {"config.yaml", "trainer_log.jsonl", "report.html", "stage1/model.safetensors", "final/tokenizer.model",
        "checkpoint-3/manifest.json", "checkpoint-8/manifest.json", "checkpoint-12/optimizer.safetensors"})
    EXPECT_TRUE(fs::exists(folder.path() / "run" / name)) << name;
  const auto steps = events(folder / "run", "train"), evaluations = events(folder / "run", "evaluation");
  ASSERT_EQ(steps.size(), 12u);
  for (const json& line : steps)
    for (const char* key : {"loss", "true_label", "learning_rate", "grad_norm", "tokens_per_second", "data_wait_share",
                            "peak_memory_bytes", "eta_seconds", "stage"})
      EXPECT_TRUE(line.at(key).is_number()) << key;
  EXPECT_EQ(steps[7]["stage"], 1);
  EXPECT_EQ(steps[8]["stage"], 2);
  EXPECT_TRUE(steps[7].contains("hidden_mse"));
  EXPECT_FALSE(steps[8].contains("kl_teacher_student"));  // stage 2 does not use the teacher
  // Teacher and student at the start, steps 5 and 10, the ends of both stages.
  ASSERT_EQ(evaluations.size(), 6u);
  EXPECT_EQ(evaluations[0]["model"], "teacher");
  for (size_t i = 1; i < evaluations.size(); ++i) EXPECT_GT(evaluations[i]["kl_teacher_student"].get<double>(), 0);
  const LeaderMap map = CheckpointReader(folder / "run/final").leader_map();
  EXPECT_EQ(map, LeaderMap({0, 1, 1, 3}));
}

TEST(TrainerTest, DistillationBringsTheStudentNearerToTheTeacher) {
  const TemporaryFolder folder;
  TrainConfig config = tiny_distillation(folder / "run");
  config.data.epoch_tokens = 100 * 8 * 2 * 32;
  config.stage2.enabled = false;
  config.save_steps = 0;
  config.distillation.hard_label_weight = 0;
  config.distillation.kl_weight = 1;
  config.per_device_train_batch_size = 8;
  config.distillation.hidden_weight = 0;
  config.learning_rate = 1e-3;
  train(config);
  const auto evaluations = events(folder / "run", "evaluation");
  EXPECT_LT(evaluations.back()["kl_teacher_student"].get<double>(), 0.8 * evaluations[1]["kl_teacher_student"].get<double>());
}

TEST(TrainerTest, AStopAfterAnyStepAndAResumeGiveTheSameBits) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  train(tiny_distillation(folder / "whole"));
  // In the middle, at a checkpoint's step, before and after the end of stage 1.
  for (const int64_t step : {1, 3, 7, 8, 9, 12}) {
    const fs::path output = folder / concat("stopped-", step);
    const TrainConfig config = tiny_distillation(output);
    const std::string message = error_message(ExitCode::interrupted, [&] { train(config, {}, step); });
    expect_contains(message, concat("step ", step, " of 12"));
    const auto newest = search_checkpoints(output).newest;
    ASSERT_TRUE(newest);
    EXPECT_EQ(newest->filename(), concat("checkpoint-", step));
    train(config, newest);
    if (step % 3 != 0 && step != 8) fs::remove_all(*newest);  // the other run has none of that step
    EXPECT_EQ(differences(folder / "whole", output), std::vector<std::string>{}) << "stopped after " << step;
  }
}

TEST(TrainerTest, AFinishedRunStartedAgainTrainsNoMore) {
  const TemporaryFolder folder;
  const TrainConfig config = tiny_pretraining(folder / "run");
  train(config);
  const std::string log = read_file(folder / "run/trainer_log.jsonl"),
                    weights = read_file(folder / "run/final/model.safetensors");
  train(config, folder / "run/checkpoint-6");
  EXPECT_EQ(read_file(folder / "run/trainer_log.jsonl"), log);
  EXPECT_EQ(read_file(folder / "run/final/model.safetensors"), weights);
}

TEST(TrainerTest, MicroBatchesOfAnySizeMakeTheSameRun) {
  const TemporaryFolder folder;
  TrainConfig config = tiny_distillation(folder / "two-times-two");
  config.compute_dtype = settings::ComputeType::float64;
  config.eval_steps = 0;
  train(config);
  config.output_dir = (folder / "one-times-four").string();
  config.per_device_train_batch_size = 4;
  config.gradient_accumulation_steps = 1;
  train(config);
  const auto a = events(folder / "two-times-two", "train"), b = events(folder / "one-times-four", "train");
  ASSERT_EQ(a.size(), b.size());
  // f64: only rounding, amplified in the first steps by the division by a small second moment.
  for (size_t i = 0; i < a.size(); ++i)
    for (const char* key : {"loss", "grad_norm"})
      EXPECT_NEAR(a[i][key].get<double>(), b[i][key].get<double>(), 1e-9) << key << " " << i;
}

TEST(TrainerTest, PretrainLearnsAndContinueStartsWhereItEnded) {
  const TemporaryFolder folder;
  TrainConfig config = tiny_pretraining(folder / "first");
  config.max_steps = 30;
  train(config);
  const auto first = events(folder / "first", "evaluation");
  EXPECT_LT(first.back()["loss"].get<double>(), first.front()["loss"].get<double>() - 0.2);
  config.mode = settings::Mode::continue_training;
  config.student.model_name_or_path = (folder / "first/final").string();
  config.output_dir = (folder / "second").string();
  train(config);
  const auto second = events(folder / "second", "evaluation");
  EXPECT_EQ(second.front()["loss"], first.back()["loss"]);
  EXPECT_LT(second.back()["loss"].get<double>(), first.back()["loss"].get<double>());
}

TEST(TrainerTest, ADryRunTakesOneStepAndWritesNothing) {
  const TemporaryFolder folder;
  const TrainConfig config = tiny_distillation(folder / "run");
  TrainingRun run = prepare_run(config, resolve_inputs(config));
  RunRecorder nothing;
  const std::string text = Trainer(run, nothing).dry_run();
  EXPECT_FALSE(fs::exists(folder / "run"));
  expect_contains(text, "one step: loss");
  expect_contains(text, "optimizer moments");
  expect_contains(text, "steps in all: 12");
}

TEST(TrainerTest, AProcessThatRecordsNothingTrainsTheSameWeights) {
  const TemporaryFolder folder;
  const TrainConfig config = tiny_distillation(folder / "recorded");
  train(config);
  TrainConfig silent = config;
  silent.output_dir = (folder / "silent").string();
  TrainingRun run = prepare_run(silent, resolve_inputs(silent));
  RunRecorder nothing;
  Trainer(run, nothing).train();
  EXPECT_FALSE(fs::exists(silent.output_dir));
  const auto recorded =
      load_model(CheckpointReader(folder / "recorded/final"), {.dtype = DType::f32, .requires_gradient = false});
  const auto expected = recorded->named_tensors(), trained = run.student->named_tensors();
  ASSERT_EQ(trained.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(trained[i].tensor.contiguous().to_vector<float>(), expected[i].tensor.contiguous().to_vector<float>())
        << expected[i].name;
}

// Sets the norm weight of the student's first layer to NaN, or back to a number.
void set_norm(TrainingRun& run, float value) {
  for (const NamedTensor& part : run.student->named_tensors())
    if (part.name == "model.layers.0.input_layernorm.weight") part.tensor.contiguous().data<float>()[0] = value;
}

TEST(TrainerTest, AStepWithoutAFiniteLossIsSkippedAndLoggedAndTheRunGoesOn) {
  const TemporaryFolder folder;
  const TrainConfig config = tiny_distillation(folder / "run");
  TrainingRun run = prepare_run(config, resolve_inputs(config));
  RunDisplay display;
  display.progress = [&](int64_t step, int64_t) { set_norm(run, step == 3 || step == 4 ? std::nanf("") : 1.0f); };
  RunFolder recorder(config, display);
  Trainer trainer(run, recorder);
  trainer.train();
  const auto skipped = events(folder / "run", "skipped");
  ASSERT_EQ(skipped.size(), 2u);
  EXPECT_EQ(skipped[0]["step"], 4);
  EXPECT_EQ(skipped[1]["step"], 5);
  EXPECT_EQ(skipped[0]["reason"], "loss not finite");
  EXPECT_TRUE(skipped[0]["cursor"].is_object());
  EXPECT_EQ(events(folder / "run", "train").size(), 10u);
  EXPECT_EQ(trainer.state().skipped, 2);
}

TEST(TrainerTest, ThreeInARowEndTheRunNamingTheBatchesPosition) {
  const TemporaryFolder folder;
  const TrainConfig config = tiny_distillation(folder / "run");
  TrainingRun run = prepare_run(config, resolve_inputs(config));
  RunDisplay display;
  display.progress = [&](int64_t step, int64_t) { set_norm(run, step >= 2 ? std::nanf("") : 1.0f); };
  RunFolder recorder(config, display);
  const std::string message = error_message(ExitCode::numerical, [&] { Trainer(run, recorder).train(); });
  EXPECT_NE(message.find("step 5"), std::string::npos) << message;
  EXPECT_NE(message.find("\"row\":"), std::string::npos) << message;
  EXPECT_EQ(events(folder / "run", "skipped").size(), 3u);
  EXPECT_FALSE(fs::exists(folder / "run/final"));
}

}  // namespace
}  // namespace echo
