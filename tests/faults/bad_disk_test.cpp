// Operations on files fail, or the disk changes what is stored on it.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "base/random.h"
#include "tests/faults/fault_run.h"
#include "tests/faults/file_calls.h"
#include "tests/training/small_run.h"
#include "training/run_folder.h"

namespace echo {
namespace {

// Runs `body` while the call number `first`, or each from there on, fails with `error`. Returns the number of calls.
int with_failing_calls(const fs::path& folder, int first, bool lasting, int error, const std::function<void()>& body) {
  int calls = 0;
  const FileCallWatch watch(folder, [&](const FileCall&) {
    ++calls;
    return FileCallResult{.error = calls == first || (lasting && calls > first) ? error : 0};
  });
  body();
  return calls;
}

constexpr int kNever = 0;

TEST(BadDiskTest, AFailureAtAnyOperationOfASaveIsAnErrorAndLeavesTheOlderCheckpoint) {
  SmallRun run;
  const fs::path folder = run.folder / "run", older = run.save(1);
  const std::string weights = read_file(older / "model.safetensors");
  const int calls = with_failing_calls(folder, kNever, false, 0, [&] { run.save(2, /*keep=*/1); });
  EXPECT_GE(calls, 40);
  int failures = 0, saves = 0;
  for (const int error : {ENOSPC, EIO, EROFS}) {
    for (const bool lasting : {false, true}) {
      for (int call = 1; call <= calls; ++call) {
        fs::remove_all(folder);
        fs::create_directory(folder);
        run.save(1);
        const std::string where = concat(std::strerror(error), " at call ", call, lasting ? " and after it" : "");
        bool saved = false;
        with_failing_calls(folder, call, lasting, error, [&] {
          try {
            run.save(2, /*keep=*/1);
            saved = true;
          } catch (const Error& failure) {
            EXPECT_EQ(failure.code(), ExitCode::io) << where;
            expect_contains(failure.what(), std::strerror(error));
          }
        });
        (saved ? saves : failures) += 1;
        const CheckpointSearch found = search_checkpoints(folder);
        EXPECT_EQ(found.problems, std::vector<std::string>{}) << where;
        ASSERT_TRUE(found.newest) << where;
        EXPECT_TRUE(!saved || found.newest->filename() == "checkpoint-2") << where;
        EXPECT_TRUE(!fs::exists(older) || read_file(older / "model.safetensors") == weights) << where;
        remove_unfinished(folder);
        for (const std::string& name : run.names()) EXPECT_EQ(name.find(".tmp-"), std::string::npos) << where;
      }
    }
  }
  // A save does not fail when only a checkpoint that is too old cannot be removed.
  EXPECT_EQ(failures + saves, 6 * calls);
  EXPECT_GE(failures, 4 * calls);
}

TEST(BadDiskTest, ShortWritesMakeTheSameFiles) {
  SmallRun run;
  const fs::path whole = run.save(1);
  std::vector<std::string> contents;
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "config.json"})
    contents.push_back(read_file(whole / file));
  for (const size_t most_bytes : {1, 7, 1000}) {
    const FileCallWatch watch(run.folder / "run", [&](const FileCall&) { return FileCallResult{.most_bytes = most_bytes}; });
    const fs::path saved = run.save(1);
    verified_manifest(saved);
    size_t next = 0;
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "config.json"})
      EXPECT_EQ(read_file(saved / file), contents[next++]) << file << ", " << most_bytes << " bytes at a time";
  }
}

TEST(BadDiskTest, ADiskThatCannotBeReadMakesTheOlderCheckpointTheNewest) {
  SmallRun run;
  const fs::path older = run.save(1);
  run.save(2);
  for (const char* file : {"model.safetensors", "manifest.json"}) {
    const FileCallWatch watch(run.folder / "run/checkpoint-2", [&](const FileCall& call) {
      return FileCallResult{.error = call.path.filename() == file ? EIO : 0};
    });
    const CheckpointSearch found = search_checkpoints(run.folder / "run");
    EXPECT_EQ(found.newest, older);
    ASSERT_EQ(found.problems.size(), 1u);
    expect_contains(found.problems[0], concat(file, ": reading failed: Input/output error"));
  }
}

TEST(BadDiskTest, EachOfAHundredFlippedBitsIsFoundWithItsFileAndHash) {
  SmallRun run;
  const fs::path older = run.save(1), newer = run.save(2);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(newer)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  RandomSequence random(/*seed=*/100, /*stream=*/0);
  int found = 0;
  for (int i = 0; i < 100; ++i) {
    const fs::path& file = files[size_t(i) % files.size()];
    const std::string whole = read_file(file);
    std::string changed = whole;
    const size_t at = random.below(changed.size());
    changed[at] = char(changed[at] ^ (1 << random.below(8)));
    write_file(file, changed);
    const CheckpointSearch search = search_checkpoints(run.folder / "run");
    const bool is_found = search.newest == older && search.problems.size() == 1;
    found += is_found;
    EXPECT_TRUE(is_found) << file << ", byte " << at;
    if (!is_found) continue;
    expect_contains(search.problems[0], file.filename());
    if (file.filename() != "manifest.json") expect_contains(search.problems[0], "XXH3");
    write_file(file, whole);
  }
  EXPECT_EQ(found, 100);
}

class BadDiskRunTest : public testing::TestWithParam<settings::Choice> {
 protected:
  TrainConfig config(const std::string& name) const { return run_with_saves(folder_ / name, GetParam()); }

  const std::unique_ptr<TemporaryFolder> memory_ = memory_folder();
  const TemporaryFolder& folder_ = *memory_;
};

TEST_P(BadDiskRunTest, AFullDiskEndsTheRunWith74AndWithRoomItContinuesWithTheSameBits) {
  const int calls = with_failing_calls(folder_ / "whole", kNever, false, 0, [&] { run_to_end(config("whole")); });
  int ended = 0;
  for (int call = calls / 12; call < calls; call += calls / 12) {
    fs::remove_all(folder_ / "full");
    with_failing_calls(folder_ / "full", call, /*lasting=*/true, ENOSPC, [&] {
      const std::string message = error_message(ExitCode::io, [&] { run_to_end(config("full")); });
      expect_contains(message, "No space left on device");
      ++ended;
    });
    run_to_end(config("full"));
    EXPECT_EQ(differences(folder_ / "whole", folder_ / "full"), std::vector<std::string>{}) << "call " << call;
  }
  EXPECT_GE(ended, 10);
}

INSTANTIATE_TEST_SUITE_P(Saves, BadDiskRunTest, testing::Values(settings::Choice::no, settings::Choice::yes),
                         [](const auto& saves) { return saves.param == settings::Choice::yes ? "Background" : "Waiting"; });

TEST(BadDiskTest, ADamagedCheckpointIsNamedOnceAndWithoutAnIntactOneTheRunDoesNotStartAnew) {
  const auto memory = memory_folder();
  TrainConfig config = run_with_saves(*memory / "run", settings::Choice::no);
  config.save_total_limit = 2;
  run_to_end(config);
  const auto damage = [&](const char* checkpoint) {
    const fs::path file = fs::path(config.output_dir) / checkpoint / "model.safetensors";
    std::string content = read_file(file);
    content[content.size() / 2] = char(content[content.size() / 2] ^ 1);
    write_file(file, content);
  };
  const auto choose = [&](std::vector<std::string>& lines) {
    return RunFolder(config, {.print = [&](const std::string& line) { lines.push_back(line); }, .progress = {}})
        .checkpoint_to_resume();
  };
  damage("checkpoint-8");
  std::vector<std::string> lines;
  EXPECT_EQ(choose(lines), fs::path(config.output_dir) / "checkpoint-6");
  ASSERT_EQ(lines.size(), 1u);
  expect_contains(lines[0], "warning: skipping a damaged checkpoint");
  expect_contains(lines[0], "checkpoint-8");
  expect_contains(lines[0], "model.safetensors is damaged: its XXH3 is ");
  damage("checkpoint-6");
  for (int start = 0; start < 2; ++start)
    expect_contains(error_message(ExitCode::bad_data, [&] { choose(lines); }), "no checkpoint is as it was saved");
  config.resume_from_checkpoint = "none";
  expect_contains(error_message(ExitCode::usage, [&] { choose(lines); }), "already contains checkpoints");
}

}  // namespace
}  // namespace echo
