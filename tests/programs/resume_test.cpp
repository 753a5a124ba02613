// Runs that are killed or stopped, and started again with the same command, end like an uninterrupted run, bit for bit.
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "tests/programs/program_support.h"
#include "tests/programs/running_program.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/training_checkpoint.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

bool saving_now(const fs::path& output) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output, error))
    if (entry.path().filename().string().find(".tmp-") != std::string::npos) return true;
  return false;
}

size_t lines_in_log(const fs::path& output) {
  return fs::exists(output / "trainer_log.jsonl") ? TrainingLog::read(output / "trainer_log.jsonl").size() : 0;
}

class ResumeTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_program("train");
    if (!found) GTEST_SKIP() << kNotBuilt;
    program_ = *found;
    // One thread that does not spin, because several tests may share a core.
    ::setenv("OMP_NUM_THREADS", "1", 1);
  }
  TrainConfig config(const std::string& name) const {
    TrainConfig made = tiny_distillation(folder_ / name);
    made.data.epoch_tokens = 24 * 2 * 2 * 32;  // 24 and 12 steps
    made.data.shuffle_tokens = 1024;           // each start reads a block
    made.save_steps = 2;
    made.save_total_limit = 2;
    return made;
  }
  std::string file_of(const std::string& name) const { return written(config(name), folder_ / (name + ".yaml")); }
  void run_untouched(const std::string& name) {
    ProgramOptions options;
    const ProgramResult result = run_executable(program_, {file_of(name)}, options);
    ASSERT_EQ(result.exit_code, 0) << result.errors;
  }

  const std::unique_ptr<TemporaryFolder> memory_ = memory_folder();
  const fs::path folder_ = memory_->path();
  fs::path program_;
};

TEST_F(ResumeTest, KillsAtRandomMomentsSomeOfThemDuringASaveChangeNoBit) {
  tiny_inputs();  // made before the clock starts
  const auto start = Clock::now();
  run_untouched("whole");
  if (HasFatalFailure()) return;
  const auto duration = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
  const fs::path output = folder_ / "killed";
  const std::string file = file_of("killed");

  RandomSequence random(/*seed=*/20, /*stream=*/0);
  int kills = 0, kills_while_saving = 0, finished = 0;
  const auto enough = [&] { return kills >= 34 && kills_while_saving >= 5; };
  for (int starts = 0; starts < 400; ++starts) {
    RunningProgram program(program_, {file});
    // Every third start waits until a save is in progress. The other starts end at a random moment within half of the time of
    // the whole run. A run that ends before that is compared, and started again if kills are still needed.
    const auto moment = Clock::now() + std::chrono::microseconds(int64_t(random.below(uint64_t(duration) / 2)));
    const bool wait_for_save = starts % 3 == 2;
    while (program.running() && (enough() || (wait_for_save ? !saving_now(output) : Clock::now() < moment)))
      std::this_thread::yield();
    const int status = program.finish_with(SIGKILL);
    if (status == -SIGKILL) {
      ++kills;
      kills_while_saving += saving_now(output);
      continue;
    }
    ASSERT_EQ(status, 0) << "a run ended by itself";
    ++finished;
    EXPECT_EQ(differences(folder_ / "whole", output), std::vector<std::string>{}) << "after " << kills << " kills";
    if (enough()) break;
    fs::remove_all(output);
  }
  EXPECT_GE(kills, 34);
  EXPECT_GE(kills_while_saving, 5);
  EXPECT_GE(finished, 1);
  for (const auto& entry : fs::directory_iterator(output))
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << "left behind: " << entry.path();
}

TEST_F(ResumeTest, ASignalToStopSavesAndExits75AndTheSameCommandGoesOn) {
  run_untouched("whole");
  if (HasFatalFailure()) return;
  for (const int signal : {SIGTERM, SIGINT}) {
    const fs::path output = folder_ / "stopped";
    fs::remove_all(output);
    RunningProgram program(program_, {file_of("stopped")});
    while (program.running() && lines_in_log(output) < 6) std::this_thread::yield();
    EXPECT_EQ(program.finish_with(signal), int(ExitCode::interrupted));
    const auto checkpoint = search_checkpoints(output).newest;
    ASSERT_TRUE(checkpoint);
    run_untouched("stopped");
    // A stop after an odd step leaves a checkpoint that the other run does not have.
    if (!fs::exists(folder_ / "whole" / checkpoint->filename())) fs::remove_all(*checkpoint);
    EXPECT_EQ(differences(folder_ / "whole", output), std::vector<std::string>{});
  }
}

}  // namespace
}  // namespace echo
