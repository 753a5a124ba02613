#include "training/checkpoint_saver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "tensor/allocator.h"
#include "tests/faults/file_calls.h"
#include "tests/training/small_run.h"
#include "training/memory_plan.h"

namespace echo {
namespace {

struct Saves {
  explicit Saves(bool in_background)
      : saver({.output_dir = run.folder / "run", .log = run.folder / "log", .keep = 2, .in_background = in_background},
              [this](const CheckpointSaver::Saved& saved) { reported.push_back(saved); }) {
    write_file(run.folder / "log", "");
  }
  void save(int64_t step) {
    run.state.step = step;
    saver.save(run.content());
  }
  fs::path checkpoint(int64_t step) const { return run.folder.path() / "run" / concat("checkpoint-", step); }

  SmallRun run;
  std::vector<CheckpointSaver::Saved> reported;
  CheckpointSaver saver;
};

TEST(CheckpointSaverTest, WhatIsWrittenInTheBackgroundIsTheStateAtTheCallOfSave) {
  Saves waiting(false), background(true);
  waiting.save(1);
  std::atomic<bool> go_on = false, stuck = false;
  const FileCallWatch watch(background.run.folder / "run", [&](const FileCall&) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!go_on && !stuck) stuck = std::chrono::steady_clock::now() > limit;
    return FileCallResult{};
  });
  background.save(1);  // returns while the thread waits
  EXPECT_TRUE(background.reported.empty());
  for (Parameter* parameter : background.run.model->parameters()) parameter->variable.data().fill_zero();
  const TensorProvider moments = background.run.optimizer->state_provider();
  for (const TensorDescription& description : background.run.optimizer->state()) moments(description).fill_zero();
  go_on = true;
  background.saver.wait();
  EXPECT_FALSE(stuck) << "save() waited for its thread";
  ASSERT_EQ(background.reported.size(), 1u);
  EXPECT_EQ(background.reported[0].folder, background.checkpoint(1));
  EXPECT_GE(background.reported[0].written, background.reported[0].waited);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "config.json", "manifest.json"})
    EXPECT_EQ(read_file(background.checkpoint(1) / file), read_file(waiting.checkpoint(1) / file)) << file;
}

TEST(CheckpointSaverTest, ASaveWaitsForTheOneBeforeItAndEachIsReportedOnce) {
  Saves saves(true);
  for (int64_t step = 1; step <= 5; ++step) {
    saves.save(step);
    EXPECT_EQ(saves.reported.size(), size_t(step - 1));
  }
  saves.saver.wait();
  saves.saver.wait();
  saves.saver.report_finished();
  EXPECT_EQ(saves.reported.size(), 5u);
  EXPECT_EQ(saves.run.names(), (std::vector<std::string>{"checkpoint-4", "checkpoint-5"}));
  for (const int64_t step : {4, 5}) EXPECT_EQ(state_from_manifest(verified_manifest(saves.checkpoint(step))).step, step);
}

TEST(CheckpointSaverTest, AnErrorOfTheThreadComesWithTheNextCallAndTheNextSaveIsIndependentOfIt) {
  Saves saves(true);
  saves.save(1);
  saves.saver.wait();
  {
    const FileCallWatch watch(saves.run.folder / "run", [&](const FileCall& call) {
      return FileCallResult{.error = call.path.filename() == "optimizer.safetensors" ? ENOSPC : 0};
    });
    saves.save(2);
    expect_contains(error_message(ExitCode::io, [&] { saves.saver.wait(); }), "No space left on device");
  }
  EXPECT_EQ(saves.run.names(), std::vector<std::string>{"checkpoint-1"});
  saves.save(3);
  saves.saver.wait();
  EXPECT_EQ(search_checkpoints(saves.run.folder / "run").newest, saves.checkpoint(3));
}

TEST(CheckpointSaverTest, TheCopyTakesThePlannedMemoryAndTakesItOnce) {
  Saves saves(true);
  const auto copied = [] {
    for (const auto& holder : memory_statistics(Device{}).holders)
      if (holder.label == "copy for saving") return holder.in_use;
    return int64_t{0};
  };
  saves.save(1);
  const ModelDescription& model = saves.run.description;
  const int64_t bytes = copied(), planned = save_copy_bytes({}, {model.config, model.leader_map});
  EXPECT_GE(bytes, planned);
  const int64_t tensors = int64_t(saves.run.content().weights.size() + saves.run.content().moments.size());
  EXPECT_LE(bytes, planned + 64 * tensors);  // each is rounded up to 64 bytes
  for (const int64_t step : {2, 3}) saves.save(step);
  EXPECT_EQ(copied(), bytes);
}

TEST(CheckpointSaverTest, SavesAreInTheBackgroundIfTheCopyFits) {
  TrainConfig config;
  const SmallRun run;
  const PlannedModels models{run.description.config, run.description.leader_map};
  const int64_t copy = save_copy_bytes(config, models), others = plan_memory(config, models, false).peak;
  EXPECT_TRUE(saves_in_background(config, models, /*on_gpu=*/false, (others + copy) / 8 * 9 + 8));
  EXPECT_FALSE(saves_in_background(config, models, false, others + copy));
  EXPECT_FALSE(saves_in_background(config, models, false, /*main_memory=*/-1));
  EXPECT_TRUE(saves_in_background(config, models, /*on_gpu=*/true, 2 * copy));
  EXPECT_FALSE(saves_in_background(config, models, true, copy));
  config.async_save = settings::Choice::yes;
  EXPECT_TRUE(saves_in_background(config, models, false, 1));
  EXPECT_EQ(plan_memory(config, models, false).peak, others + copy);
  EXPECT_EQ(plan_memory(config, models, true).peak, plan_memory(TrainConfig{}, models, true).peak);
  expect_contains(describe_memory(config, models, false, others), "\n  async_save=false (");
  config.async_save = settings::Choice::no;
  EXPECT_FALSE(saves_in_background(config, models, false, 100 * copy));
}

}  // namespace
}  // namespace echo
