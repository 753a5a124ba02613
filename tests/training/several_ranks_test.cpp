// Runs of several ranks, each in a thread, beside the same run of one rank.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <utility>

#include "communication/thread_ranks.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/gradient_buckets.h"
#include "training/rank_reduction.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace echo {
namespace {

using nlohmann::json;

constexpr int64_t kRowsPerStep = 4;

// A run whose steps have four rows, however many ranks divide them.
TrainConfig config_for(const fs::path& output_dir, int64_t world, settings::ComputeType type) {
  TrainConfig config = tiny_distillation(output_dir);
  config.compute_dtype = type;
  config.per_device_train_batch_size = 1;
  config.gradient_accumulation_steps = kRowsPerStep / world;
  config.data.epoch_tokens = 14 * kRowsPerStep * 32;  // 14 and 7 steps
  config.save_steps = 6;
  config.eval_steps = 0;
  config.report = false;
  return config;
}

TrainingRun prepare(const TrainConfig& config, const std::shared_ptr<Communicator>& ranks,
                    std::optional<fs::path> checkpoint = {}) {
  omp_set_num_threads(1);
  SetupOptions setup;
  setup.communicator = ranks;
  setup.checkpoint = std::move(checkpoint);
  return prepare_run(config, resolve_inputs(config), setup);
}

// Trains to the end with `world` ranks, or until `stop` says so on one of them.
using Stop = std::function<bool(int64_t rank, int64_t step)>;
void train(const TrainConfig& config, int64_t world, std::optional<fs::path> checkpoint = {}, const Stop& stop = {}) {
  run_thread_ranks(world, [&](const std::shared_ptr<Communicator>& ranks) {
    std::unique_ptr<RunRecorder> recorder = std::make_unique<RunRecorder>();
    if (ranks->is_first()) recorder = std::make_unique<RunFolder>(config);
    TrainingRun run = prepare(config, ranks, checkpoint);
    const Trainer* running = nullptr;
    Trainer trainer(run, *recorder, [&] { return stop && stop(ranks->rank(), running->state().step); });
    running = &trainer;
    if (checkpoint) trainer.resume(*checkpoint);
    trainer.train();
  });
}

std::vector<double> logged(const fs::path& run, const std::string& key) {
  std::vector<double> values;
  for (const json& line : TrainingLog::read(run / "trainer_log.jsonl"))
    if (line["event"] == "train") values.push_back(line.at(key));
  return values;
}

// Only the order of sums differs. In f64 that stays below 1e-10 for all steps, so this is the proof. In f32 each step rounds by
// 6e-8, and training amplifies it: 3e-7 to 4e-6 after 21 to 51 steps were seen, depending on compiler flags.
constexpr double kTolerance64 = 1e-10, kTolerance32 = 2e-5;

void expect_equal_logs(const fs::path& a, const fs::path& b, double tolerance,
                       const std::vector<std::string>& keys = {"loss", "true_label", "tokens"}) {
  for (const std::string& key : keys) {
    const std::vector<double> expected = logged(a, key), found = logged(b, key);
    ASSERT_EQ(found.size(), expected.size());
    ASSERT_GE(found.size(), 21u);
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], expected[i], tolerance * std::abs(expected[i])) << key << " of line " << i << " of " << b;
  }
}

struct OneStep {
  std::vector<int32_t> rows;  // in the order of the global sequence of rows
  std::vector<double> gradient;
  LossSums sums;
};

// The rows and the gradient of the first step.
OneStep first_step(const TrainConfig& config, int64_t world) {
  OneStep step;
  run_thread_ranks(world, [&](const std::shared_ptr<Communicator>& ranks) {
    const TrainingRun run = prepare(config, ranks);
    DataLoader loader(run.data, *run.tokenizer);
    ForwardOptions options;
    options.compute_dtype = run.compute_dtype;
    LossSums sums;
    std::vector<std::string> rows;
    GradientBuckets buckets(*ranks, backward_order(*run.student), {.bytes = 4096});
    for (int64_t i = 0; i < config.gradient_accumulation_steps; ++i) {
      if (i + 1 == config.gradient_accumulation_steps) buckets.start_in_next_pass();
      const Batch batch = loader.next_batch(1);
      const int64_t tokens = sum_over_ranks(*ranks, batch.valid_tokens) * config.gradient_accumulation_steps;
      sums += accumulate_gradients(*run.student, run.teacher.get(), batch, stage_loss(config.distillation), options, tokens);
      const std::string row(reinterpret_cast<const char*>(batch.inputs.data()), batch.inputs.size() * sizeof(int32_t));
      for (const std::string& of_rank : ranks->all_gather(row)) rows.push_back(of_rank);
    }
    sums = sum_over_ranks(*ranks, sums);
    buckets.finish();
    if (!ranks->is_first()) return;
    step.sums = sums;
    for (const std::string& row : rows) {
      const auto* ids = reinterpret_cast<const int32_t*>(row.data());
      step.rows.insert(step.rows.end(), ids, ids + row.size() / sizeof(int32_t));
    }
    for (const Parameter* parameter : run.student->parameters()) {
      const std::vector<double> values = parameter->variable.gradient().to_vector<double>();
      step.gradient.insert(step.gradient.end(), values.begin(), values.end());
    }
  });
  return step;
}

TEST(SeveralRanksTest, OneTwoAndFourRanksHaveTheSameRowsAndTheSameGradient) {
  const auto float64 = settings::ComputeType::float64;
  const OneStep one = first_step(config_for("unused", 1, float64), 1);
  double norm = 0;
  for (const double value : one.gradient) norm += value * value;
  for (const int64_t world : {2, 4}) {
    const OneStep several = first_step(config_for("unused", world, float64), world);
    EXPECT_EQ(several.rows, one.rows) << world << " ranks";
    EXPECT_EQ(several.sums.tokens, one.sums.tokens);
    EXPECT_NEAR(several.sums.loss, one.sums.loss, 1e-12 * one.sums.loss);
    ASSERT_EQ(several.gradient.size(), one.gradient.size());
    double difference = 0;
    for (size_t i = 0; i < one.gradient.size(); ++i) difference += std::pow(several.gradient[i] - one.gradient[i], 2);
    EXPECT_LT(std::sqrt(difference / norm), 1e-12) << world << " ranks";  // f64: only the order of the sums differs
  }
}

TEST(SeveralRanksTest, TwoAndFourRanksTrainLikeOne) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  for (const int64_t world : {1, 2, 4}) {
    train(config_for(folder / concat("float32-", world), world, settings::ComputeType::float32), world);
    TrainConfig config = config_for(folder / concat("float64-", world), world, settings::ComputeType::float64);
    config.data.epoch_tokens = 34 * kRowsPerStep * 32;  // 34 and 17 steps
    train(config, world);
    expect_equal_logs(folder / "float32-1", folder / concat("float32-", world), kTolerance32);
    expect_equal_logs(folder / "float64-1", folder / concat("float64-", world), kTolerance64, {"loss", "grad_norm", "tokens"});
  }
}

TEST(SeveralRanksTest, TheSameNumberOfRanksGivesTheSameBits) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  const auto type = settings::ComputeType::float32;
  train(config_for(folder / "first", 2, type), 2);
  train(config_for(folder / "second", 2, type), 2);
  EXPECT_EQ(differences(folder / "first", folder / "second"), std::vector<std::string>{});
}

TEST(SeveralRanksTest, NeitherTheSizeOfBucketsNorShardsOfOptimizerAndTeacherChangeABit) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  for (const auto& [world, type] : {std::pair{1, settings::ComputeType::float32}, std::pair{2, settings::ComputeType::bfloat16},
                                    std::pair{4, settings::ComputeType::float32}}) {
    const fs::path whole = folder / concat(world, "-whole");
    TrainConfig config = config_for(whole, world, type);
    config.data.epoch_tokens = 7 * kRowsPerStep * 32;  // 7 and 4 steps
    config.eval_steps = 3;                             // the first rank evaluates the teacher alone
    config.weight_decay = 0.1;                         // of matrices, and not of the norms that share their buckets
    train(config, world);
    for (const auto& [mebibytes, shard] : {std::pair{0.001, true}, std::pair{0.02, false}, std::pair{25.0, true}}) {
      config.output_dir = folder / concat(world, "-", mebibytes, "-", shard);
      config.gradient_bucket_mib = mebibytes;
      config.shard_optimizer = config.shard_teacher = shard;
      train(config, world);
      EXPECT_EQ(differences(whole, config.output_dir), std::vector<std::string>{}) << config.output_dir;
    }
  }
}

TEST(SeveralRanksTest, ACheckpointOfFourShardsIsReadByAnyNumberOfRanksWithAndWithoutShards) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  const auto type = settings::ComputeType::float64;
  train(config_for(folder / "whole", 1, type), 1);
  TrainConfig stopped = config_for(folder / "stopped", 4, type);
  stopped.shard_optimizer = true;
  error_message(ExitCode::interrupted, [&] { train(stopped, 4, {}, [](int64_t, int64_t step) { return step == 9; }); });
  for (const int64_t world : {4, 2, 1})
    for (const bool shard : {false, true}) {
      const fs::path output = folder / concat("then-", world, "-", shard);
      fs::copy(folder / "stopped", output, fs::copy_options::recursive);
      TrainConfig config = config_for(output, world, type);
      config.shard_optimizer = shard;
      config.gradient_bucket_mib = 0.02;  // other slices than those that were saved
      train(config, world, output / "checkpoint-9");
      expect_equal_logs(folder / "whole", output, kTolerance64);
    }
  for (const int64_t world : {4, 2})
    EXPECT_EQ(differences(folder / concat("then-", world, "-0"), folder / concat("then-", world, "-1")),
              std::vector<std::string>{});
}

TEST(SeveralRanksTest, GradientsOnABfloat16WireTrainNearlyAsWell) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  TrainConfig config = config_for(folder / "float32", 2, settings::ComputeType::float32);
  train(config, 2);
  config.output_dir = folder / "bfloat16";
  config.gradient_wire = settings::GradientWire::bfloat16;
  train(config, 2);
  EXPECT_NE(logged(folder / "bfloat16", "loss"), logged(folder / "float32", "loss"));
  expect_equal_logs(folder / "float32", folder / "bfloat16", 0.02, {"loss"});  // each gradient is off by up to 2^-8
  const std::string message = error_message(ExitCode::config, [&] {
    train(config_for(config.output_dir, 2, config.compute_dtype), 2, config.output_dir + "/checkpoint-6");
  });
  expect_contains(message, "gradient_wire (\"bfloat16\" -> \"float32\")");
}

TEST(SeveralRanksTest, AStopOfOneRankStopsAllAndAnyNumberOfRanksGoesOn) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  const auto type = settings::ComputeType::float64;
  train(config_for(folder / "whole", 1, type), 1);
  for (const int64_t world : {4, 2, 1}) {
    const fs::path output = folder / concat("stopped-then-", world);
    const std::string message = error_message(ExitCode::interrupted, [&] {
      train(config_for(output, 4, type), 4, {}, [](int64_t rank, int64_t step) { return rank == 2 && step == 9; });
    });
    expect_contains(message, "stopped after step 9 of 21");
    train(config_for(output, world, type), world, output / "checkpoint-9");
    expect_equal_logs(folder / "whole", output, kTolerance64);
  }
}

TEST(SeveralRanksTest, AnotherNumberOfSequencesPerStepIsAnotherRun) {
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  const auto type = settings::ComputeType::float32;
  error_message(ExitCode::interrupted,
                [&] { train(config_for(folder / "run", 4, type), 4, {}, [](int64_t, int64_t step) { return step == 2; }); });
  const TrainConfig config = config_for(folder / "run", 4, type);
  const std::string message = error_message(ExitCode::config, [&] { train(config, 2, folder / "run/checkpoint-2"); });
  expect_contains(message, "number of processes (1 * 1 * 4 -> 1 * 1 * 2)");
}

// Makes the loss of step 4 NaN on its rank.
struct Disturbance : RunRecorder {
  explicit Disturbance(TrainingRun& run) {
    for (const NamedTensor& part : run.student->named_tensors())
      if (part.name == "model.layers.0.input_layernorm.weight") weight = part.tensor.data<float>();
  }
  void step_done(const TrainingState& state) override {
    if (state.step == 3) kept = std::exchange(*weight, std::nanf(""));
    if (state.step == 4) *weight = kept;
  }
  float* weight = nullptr;
  float kept = 0;
};

TEST(SeveralRanksTest, ALossThatIsNotFiniteOnOneRankMakesAllSkipTheStep) {
  const TemporaryFolder folder;
  const TrainConfig config = config_for(folder / "run", 2, settings::ComputeType::float32);
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
    TrainingRun run = prepare(config, ranks);
    Disturbance disturbance(run);
    RunRecorder nothing;
    Trainer trainer(run, ranks->rank() == 1 ? static_cast<RunRecorder&>(disturbance) : nothing);
    trainer.train();
    EXPECT_EQ(trainer.state().skipped, 1) << "rank " << ranks->rank();
    EXPECT_EQ(trainer.state().step, 21);
    for (const NamedTensor& part : run.student->named_tensors()) {
      const std::vector<float> here = part.tensor.contiguous().to_vector<float>();
      Tensor first = part.tensor.clone();
      ranks->broadcast(first);
      EXPECT_EQ(here, first.to_vector<float>()) << part.name << " on rank " << ranks->rank();
    }
  });
}

}  // namespace
}  // namespace echo
