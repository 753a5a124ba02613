// The power fails at each moment of a save. What the disk holds then has the checkpoint before it or the new one.
#include "tests/faults/power_loss.h"

#include <gtest/gtest.h>

#include "tests/training/small_run.h"

namespace echo {
namespace {

const std::string kModel = "model.safetensors", kMoments = "optimizer.safetensors";

struct Counts {
  int states = 0, before = 0, after = 0, wrong = 0;
};

// Saves step 2 after step 1, and replays each prefix of the calls: with each kind of loss, and `seeds` times with a random one.
// `edit` changes the recording.
Counts replay_save(int64_t keep, uint64_t seeds, const std::function<void(std::vector<RecordedCall>&)>& edit = {}) {
  SmallRun run;
  const fs::path folder = run.folder / "run", stored = run.folder / "stored";
  const fs::path older = run.save(1), newer = folder / "checkpoint-2";
  const std::string weights_before = read_file(older / kModel), moments_before = read_file(older / kMoments);
  fs::copy(folder, stored, fs::copy_options::recursive);
  std::vector<RecordedCall> calls = record_calls(folder, [&] { run.save(2, keep); });
  const std::string weights_after = read_file(newer / kModel), moments_after = read_file(newer / kMoments);
  EXPECT_NE(weights_before, weights_after);
  if (edit) edit(calls);
  // When the new checkpoint is pruned or the old one is removed, the new one must be durable.
  size_t renamed = 0;
  while (renamed < calls.size() && !(calls[renamed].kind == FileCall::Kind::rename && calls[renamed].target == newer))
    ++renamed;

  Counts counts;
  const auto check = [&](size_t count, Unsynced unsynced, uint64_t seed) {
    fs::remove_all(folder);
    fs::copy(stored, folder, fs::copy_options::recursive);
    lose_power(calls, count, unsynced, seed);
    const CheckpointSearch found = search_checkpoints(folder);
    const bool has_before = found.newest == older && read_file(older / kModel) == weights_before &&
                            read_file(older / kMoments) == moments_before && count <= renamed + 2,
               has_after = found.newest == newer && read_file(newer / kModel) == weights_after &&
                           read_file(newer / kMoments) == moments_after && count > renamed;
    ++counts.states;
    counts.before += has_before;
    counts.after += has_after;
    counts.wrong += !(has_before || has_after) || !found.problems.empty();
  };
  for (size_t count = 0; count <= calls.size(); ++count) {
    for (const Unsynced unsynced :
         {Unsynced::lost, Unsynced::names_only, Unsynced::names_and_half, Unsynced::names_and_zeros, Unsynced::kept})
      check(count, unsynced, 0);
    for (uint64_t seed = 1; seed <= seeds; ++seed) check(count, Unsynced::random, seed);
  }
  return counts;
}

TEST(PowerLossTest, EachStateOfASaveHasTheCheckpointBeforeItOrTheNewOne) {
  for (const int64_t keep : {0, 1}) {
    const Counts counts = replay_save(keep, /*seeds=*/5);
    EXPECT_GE(counts.states, 300) << "keep " << keep;
    EXPECT_GE(counts.before, 100);
    EXPECT_GE(counts.after, 10);
    EXPECT_EQ(counts.before + counts.after, counts.states);
    EXPECT_EQ(counts.wrong, 0);
  }
}

// The test above would see a forgotten fsync.
TEST(PowerLossTest, WithoutOneOfTheFsyncsSomeStatesWouldBeWrong) {
  const auto wrong_without = [](const std::string& name) {
    int removed = 0;
    const Counts counts = replay_save(/*keep=*/1, /*seeds=*/0, [&](std::vector<RecordedCall>& calls) {
      removed += int(std::erase_if(calls, [&](const RecordedCall& call) {
        return call.kind == FileCall::Kind::sync && call.path.filename().string().starts_with(name);
      }));
    });
    EXPECT_GT(removed, 0) << name;
    return counts.wrong;
  };
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.model", "manifest.json",
                           "checkpoint-2.tmp-", "run"})
    EXPECT_GT(wrong_without(name), 0) << name;
}

}  // namespace
}  // namespace echo
