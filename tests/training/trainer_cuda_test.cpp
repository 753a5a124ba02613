// A whole run on a GPU: stages, evaluation, checkpoints, resumption.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "nn/generator.h"
#include "tensor/cuda_device.h"
#include "tensor/device_choice.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/run_folder.h"
#include "training/trainer.h"
#include "training/training_log.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

TrainConfig on_cuda(TrainConfig config) {
  config.device = "cuda";
  config.report = false;
  return config;
}

// The held-out loss at the end.
double final_loss(const fs::path& folder) {
  double loss = 0;
  for (const nlohmann::json& line : TrainingLog::read(folder / "trainer_log.jsonl"))
    if (line["event"] == "evaluation") loss = line["loss"];
  return loss;
}

void run(const TrainConfig& config) {
  RunFolder folder(config);
  TrainingRun prepared = prepare_run(config, resolve_inputs(config));
  Trainer(prepared, folder).train();
}

TEST(CudaTrainerTest, ARunEndsWhereTheCpusDoes) {
  using settings::ComputeType;
  for (const ComputeType dtype : {ComputeType::float32, ComputeType::bfloat16}) {
    const auto folder = memory_folder();
    TrainConfig on_cpu = tiny_distillation(*folder / "cpu");
    on_cpu.report = false;
    on_cpu.compute_dtype = dtype;
    run(on_cpu);
    TrainConfig on_gpu = on_cuda(on_cpu);
    on_gpu.output_dir = (*folder / "cuda").string();
    run(on_gpu);
    // Twelve steps: rounding, amplified by the quotient of the moments, has far less effect than a wrong kernel.
    EXPECT_NEAR(final_loss(*folder / "cuda") / final_loss(*folder / "cpu"), 1, dtype == ComputeType::float32 ? 1e-3 : 1e-2);
    EXPECT_GT(final_loss(*folder / "cuda"), 0.1);
  }
}

TEST(CudaTrainerTest, AResumedRunHasTheBitsOfAnUninterruptedOne) {
  const auto folder = memory_folder();
  TrainConfig whole = on_cuda(tiny_pretraining(*folder / "whole"));
  whole.compute_dtype = settings::ComputeType::bfloat16;
  run(whole);
  TrainConfig parts = whole;
  parts.output_dir = (*folder / "parts").string();
  RunFolder recorder(parts);
  {
    TrainingRun prepared = prepare_run(parts, resolve_inputs(parts));
    int steps = 0;
    EXPECT_THROW(Trainer(prepared, recorder, [&] { return ++steps == 3; }).train(), Error);
  }
  SetupOptions setup;
  setup.checkpoint = recorder.checkpoint_to_resume();
  ASSERT_TRUE(setup.checkpoint);
  TrainingRun prepared = prepare_run(parts, resolve_inputs(parts), setup);
  Trainer trainer(prepared, recorder);
  trainer.resume(*setup.checkpoint);
  trainer.train();
  EXPECT_EQ(differences(*folder / "whole", *folder / "parts"), std::vector<std::string>());
}

TEST(CudaTrainerTest, AFailingDeviceEndsTheRunAndNamesTheNewestCheckpoint) {
  const auto folder = memory_folder();
  TrainConfig config = on_cuda(tiny_pretraining(*folder / "run"));
  TrainingRun prepared = prepare_run(config, resolve_inputs(config));
  if (choose_device("cuda").reason.find("emulated") == std::string::npos)
    GTEST_SKIP() << "only the emulated device fails on request";
  RunFolder recorder(config);
  const TrainingState* state = nullptr;
  std::optional<ScopedEnvironment> failure;
  Trainer trainer(prepared, recorder, [&] {
    if (state->step == 4 && !failure) failure.emplace("CUDA_EMULATION_FAILS_AFTER", "1");  // checkpoint-3 exists
    return false;
  });
  state = &trainer.state();
  const std::string message = error_message(ExitCode::device, [&] { trainer.train(); });
  failure.reset();
  expect_contains(message, "waiting for the GPU");
  expect_contains(message, "checkpoint-3; run the same command again");
}

// A process uses one GPU, and this one has already chosen the first. So the test runs in a process of its own.
TEST(CudaSecondGpuDeathTest, TrainsAndGenerates) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const ScopedEnvironment devices("CUDA_EMULATION_DEVICES", "2");
  bool is_there = false;
  if constexpr (kWithCuda) is_there = cuda::device_count().count > 1;
  if (!is_there) GTEST_SKIP() << "there is one GPU";
  const auto train_and_generate = [] {
    const auto folder = memory_folder();
    TrainConfig config = tiny_pretraining(*folder / "run");
    config.report = false;
    config.device = "cuda:1";
    config.max_steps = 1;
    config.eval_rows = 4;
    RunFolder recorder(config);
    TrainingRun prepared = prepare_run(config, resolve_inputs(config));
    Trainer(prepared, recorder).train();
    GenerationOptions options;
    options.max_new_tokens = 4;
    size_t tokens = 0;
    generate(*prepared.student, {{1, 5}, {1}}, options, [&](size_t, int32_t) { ++tokens; });
    return prepared.device == Device{DeviceKind::cuda, 1} && tokens > 0;
  };
  EXPECT_EXIT(std::exit(train_and_generate() ? 0 : 1), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace echo
