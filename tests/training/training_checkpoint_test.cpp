#include "training/training_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/file.h"
#include "nn/model_io.h"
#include "tests/test_support.h"
#include "tests/training/optimizer_state.h"
#include "tests/training/small_run.h"

namespace echo {
namespace {

using nlohmann::json;

void flip_byte(const fs::path& file, size_t at) {
  std::string content = read_file(file);
  content.at(at) = char(content.at(at) ^ 1);
  write_file_atomically(file, content);
}

TEST(TrainingCheckpointTest, StateGoesThroughTheManifestExactly) {
  SmallRun run;
  run.state.stage_index = 1;
  run.state.stage_step = 4;
  run.state.tokens = 1234;
  run.state.skipped = 2;
  run.state.skipped_in_a_row = 1;
  run.state.seconds = 1.0 / 3;
  run.state.cursor = {
      .epoch = 1, .position = {5, 3, {{2, {3, 50}}}}, .token = 4, .block = 6, .row = 7, .files = ~uint64_t{0}, .counts = {}};
  run.state.window.steps = 1;
  run.state.window.sums.loss = 0.1;
  run.state.world = 4;
  nlohmann::json manifest = verified_manifest(run.save(7));
  const TrainingState back = state_from_manifest(manifest);
  EXPECT_EQ(back.step, 7);
  EXPECT_EQ(back.stage_index, 1);
  EXPECT_EQ(back.stage_step, 4);
  EXPECT_EQ(back.tokens, 1234);
  EXPECT_EQ(back.skipped, 2);
  EXPECT_EQ(back.skipped_in_a_row, 1);
  EXPECT_EQ(back.seconds, 1.0 / 3);
  EXPECT_EQ(back.cursor, run.state.cursor);
  EXPECT_EQ(back.window.sums.loss, 0.1);
  EXPECT_EQ(back.world, 4);
  ASSERT_EQ(manifest["state"].erase("world"), 1u);
  EXPECT_EQ(state_from_manifest(manifest).world, 1) << "a checkpoint of an earlier version";
}

TEST(TrainingCheckpointTest, WeightsAndMomentsComeBackBitForBit) {
  SmallRun run;
  const fs::path folder = run.save(3);
  const auto model = load_model(CheckpointReader(folder), {});
  AdamW optimizer(*model, {});
  restore_optimizer(optimizer, folder, verified_manifest(folder));
  EXPECT_EQ(optimizer.steps(), 1);
  const auto same = [](const Tensor& a, const Tensor& b) {
    const Tensor x = a.contiguous(), y = b.contiguous();
    return x.shape() == y.shape() && std::memcmp(x.data<float>(), y.data<float>(), size_t(x.elements()) * sizeof(float)) == 0;
  };
  const auto before = run.model->named_tensors(), after = model->named_tensors();
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(same(before[i].tensor, after[i].tensor)) << before[i].name;
  const NamedTensors moments = stored_state(*run.optimizer), restored = stored_state(optimizer);
  ASSERT_EQ(moments.size(), restored.size());
  for (size_t i = 0; i < moments.size(); ++i) EXPECT_TRUE(same(moments[i].second, restored[i].second)) << moments[i].first;
}

TEST(TrainingCheckpointTest, EveryKindOfDamageIsSeenAndTheOlderCheckpointTaken) {
  SmallRun run;
  const fs::path older = run.save(1);
  const fs::path newer = run.save(2);
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(newer)) files.push_back(entry.path().filename().string());
  EXPECT_EQ(files.size(), 6u);  // config, generation_config, model, tokenizer, optimizer, manifest
  for (const std::string& file : files) {
    const std::string whole = read_file(newer / file);
    const auto expect_older = [&](const std::string& damage) {
      const CheckpointSearch found = search_checkpoints(run.folder / "run");
      EXPECT_EQ(found.newest, older) << file << ": " << damage;
      EXPECT_EQ(found.damaged, std::vector<fs::path>{newer}) << file << ": " << damage;
      ASSERT_EQ(found.problems.size(), 1u) << file << ": " << damage;
      expect_contains(found.problems[0], newer.filename().string());
      expect_contains(found.problems[0], file);
    };
    fs::remove(newer / file);
    expect_older("missing");
    write_file_atomically(newer / file, whole.substr(0, whole.size() / 2));
    expect_older("truncated");
    write_file_atomically(newer / file, whole);
    for (const size_t at : {size_t{0}, whole.size() / 2, whole.size() - 1}) {
      flip_byte(newer / file, at);
      expect_older("flipped byte");
      flip_byte(newer / file, at);
    }
    const CheckpointSearch found = search_checkpoints(run.folder / "run");
    EXPECT_EQ(found.newest, newer) << file << ": restored";
    EXPECT_TRUE(found.problems.empty());
  }
}

TEST(TrainingCheckpointTest, AManifestThatIsNotOursIsBadData) {
  SmallRun run;
  const fs::path folder = run.save(1);
  json whole = json::parse(read_file(folder / "manifest.json"));
  whole["format"] = 1;  // of earlier versions, where no hash of the manifest hides the rest
  whole.erase("manifest_xxh3");
  const auto message_with = [&](const json& manifest) {
    write_file(folder / "manifest.json", manifest.dump());
    return error_message(ExitCode::bad_data, [&] { verified_manifest(folder); });
  };
  for (const auto& [key, value] : whole.items()) {
    json without = whole;
    without.erase(key);
    if (key == "leader_map") continue;  // only for readers; config.json has it too
    EXPECT_NE(message_with(without).find("manifest.json"), std::string::npos) << key;
  }
  for (const auto& [key, value] : whole["state"].items()) {
    json changed = whole;
    changed["state"][key] = "text";
    message_with(changed);
    if (key == "world") continue;  // earlier versions did not write it
    changed["state"].erase(key);
    message_with(changed);
  }
  json other_format = whole;
  other_format["format"] = 3;
  expect_contains(message_with(other_format), "format 3");
  other_format["format"] = 2;
  expect_contains(message_with(other_format), "manifest_xxh3");
  message_with(json::array());
  message_with(42);
  write_file(folder / "manifest.json", whole.dump());
  EXPECT_EQ(state_from_manifest(verified_manifest(folder)).step, 1) << "a checkpoint of an earlier version";
}

TEST(TrainingCheckpointTest, TheOldestBeyondTheLimitGo) {
  SmallRun run;
  for (const int64_t step : {1, 2, 9}) run.save(step);
  fs::create_directories(run.folder.path() / "run" / "checkpoint-x");
  run.save(10, /*keep=*/2);
  EXPECT_EQ(run.names(), (std::vector<std::string>{"checkpoint-10", "checkpoint-9", "checkpoint-x"}));
}

TEST(TrainingCheckpointTest, CheckpointsOfLaterStepsDoNotCountAgainstTheLimit) {
  SmallRun run;
  for (const int64_t step : {1, 2, 9}) run.save(step);
  run.save(4, /*keep=*/2);  // a run that went on from step 2, because 9 is damaged
  EXPECT_EQ(run.names(), (std::vector<std::string>{"checkpoint-2", "checkpoint-4", "checkpoint-9"}));
}

TEST(TrainingCheckpointTest, DamagedCheckpointsThatWereSetAsideDoNotCount) {
  SmallRun run;
  for (const int64_t step : {1, 2}) run.save(step);
  for (int i = 0; i < 2; ++i) {
    set_aside({run.folder.path() / "run" / "checkpoint-2"});
    EXPECT_EQ(run.names(), (std::vector<std::string>{"checkpoint-1", "checkpoint-2.damaged"}));
    EXPECT_EQ(search_checkpoints(run.folder / "run").newest, run.folder.path() / "run" / "checkpoint-1");
    run.save(2);
  }
}

TEST(TrainingCheckpointTest, WhatKilledRunsLeftIsRemoved) {
  SmallRun run;
  run.save(1);
  fs::create_directories(run.folder.path() / "run" / "checkpoint-5.tmp-123" / "folder");
  fs::create_directories(run.folder.path() / "run" / "final.tmp-7");
  remove_unfinished(run.folder / "run");
  EXPECT_EQ(run.names(), std::vector<std::string>{"checkpoint-1"});
}

TEST(TrainingCheckpointTest, AnUnfinishedFolderIsNoCheckpoint) {
  SmallRun run;
  const fs::path saved = run.save(1);
  fs::rename(run.save(2), run.folder.path() / "run" / "checkpoint-2.tmp-99");
  EXPECT_EQ(search_checkpoints(run.folder / "run").newest, saved);
  EXPECT_TRUE(search_checkpoints(run.folder / "run").problems.empty());
  EXPECT_EQ(search_checkpoints(run.folder / "nothing").newest, std::nullopt);
}

TEST(TrainingCheckpointTest, ASaveUnderANameThatIsThereReplacesIt) {
  SmallRun run;
  run.save(1);
  run.state.tokens = 77;
  EXPECT_EQ(state_from_manifest(verified_manifest(run.save(1))).tokens, 77);
  EXPECT_EQ(run.names(), std::vector<std::string>{"checkpoint-1"});
}

TEST(TrainingCheckpointTest, AModelFolderIsReplacedAsAWhole) {
  SmallRun run;
  const fs::path folder = run.folder / "final";
  fs::create_directories(folder / "stale");
  save_model_atomically(folder, *run.model, run.description, run.folder / "tokenizer.model");
  EXPECT_FALSE(fs::exists(folder / "stale"));
  EXPECT_EQ(CheckpointReader(folder).leader_map(), run.description.leader_map);
}

TEST(SameRunTest, ChangedSettingsAreNamedAndThoseOfLoggingMayChange) {
  const json stored = {{"seed", 1}, {"data", {{"path", "a"}, {"sequence_length", 64}}}, {"logging_steps", 10}, {"threads", 1}};
  check_same_run(stored, stored, "c");
  json changed = stored;
  changed["logging_steps"] = 5;
  changed["threads"] = 2;
  check_same_run(stored, changed, "c");
  changed["data"]["sequence_length"] = 128;
  changed["seed"] = 2;
  const std::string message = error_message(ExitCode::config, [&] { check_same_run(stored, changed, "runs/x/checkpoint-1"); });
  expect_contains(message, "data.sequence_length (64 -> 128)");
  expect_contains(message, "seed (1 -> 2)");
  expect_contains(message, "runs/x/checkpoint-1");
}

TEST(SameRunTest, ARunOfAVersionWithoutShufflingGoesOnWithoutIt) {
  const json stored = {{"data", {{"path", "a"}}}};
  json now = {{"data", {{"path", "a"}, {"shuffle", false}, {"shuffle_tokens", 1 << 20}, {"set_weights", json::object()}}}};
  check_same_run(stored, now, "c");
  now["data"]["shuffle"] = true;
  expect_contains(error_message(ExitCode::config, [&] { check_same_run(stored, now, "c"); }), "data.shuffle (false -> true)");
  now["data"]["shuffle"] = false;
  now["data"]["set_weights"]["C4"] = 0.5;
  expect_contains(error_message(ExitCode::config, [&] { check_same_run(stored, now, "c"); }), "data.set_weights.C4");
}

TEST(SameRunTest, ListsOfAnotherLengthAreSeen) {
  const json stored = {{"leader_map", {0, 1, 1}}}, shorter = {{"leader_map", {0, 1}}}, empty = {{"leader_map", json::array()}};
  EXPECT_NE(error_message(ExitCode::config, [&] { check_same_run(stored, shorter, "c"); }).find("leader_map"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::config, [&] { check_same_run(shorter, stored, "c"); }).find("leader_map"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::config, [&] { check_same_run(empty, stored, "c"); }).find("leader_map"), std::string::npos);
  EXPECT_NE(error_message(ExitCode::config, [&] { check_same_run(stored, empty, "c"); }).find("leader_map"), std::string::npos);
}

}  // namespace
}  // namespace echo
