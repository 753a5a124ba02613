// ./train with several processes, started by mpirun.
#include <gtest/gtest.h>
#include <omp.h>
#include <signal.h>

#include <fstream>
#include <thread>

#include "base/file.h"
#include "base/random.h"
#include "communication/thread_ranks.h"
#include "tests/programs/program_support.h"
#include "tests/programs/running_program.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace echo {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

class MpirunTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_program("train");
    if (!found) GTEST_SKIP() << kNotBuilt;
    program_ = *found;
    mpirun_ = find_mpirun();
    if (mpirun_.empty() || ECHO_WITH_MPI == 0) GTEST_SKIP() << kNoMpi;
  }
  // The arguments of mpirun.
  std::vector<std::string> with(int processes, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"-n", std::to_string(processes), "--bind-to", "none", program_.string()});
    return arguments;
  }
  ProgramResult run(int processes, std::vector<std::string> arguments) {
    return run_executable(mpirun_, with(processes, std::move(arguments)));
  }
  TrainConfig config(const std::string& name, int64_t world) const {
    TrainConfig made = tiny_distillation(folder_ / name);
    made.per_device_train_batch_size = 1;
    made.gradient_accumulation_steps = 6 / world;
    made.report = false;
    return made;
  }
  std::string file_of(const TrainConfig& made) const { return written(made, made.output_dir + ".yaml"); }
  double final_loss(const std::string& name) const {
    const std::vector<json> lines = TrainingLog::read(folder_ / name / "trainer_log.jsonl");
    EXPECT_EQ(lines.back()["event"], "evaluation");
    return lines.back()["loss"];
  }

  const std::unique_ptr<TemporaryFolder> memory_ = memory_folder();
  const fs::path folder_ = memory_->path();
  fs::path program_, mpirun_;
  const ScopedEnvironment environment_[5] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                                             {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                             {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                                             {"OMP_WAIT_POLICY", "passive"},
                                             {"ASAN_OPTIONS", "detect_leaks=0"}};  // MPI keeps memory to its end
};

// The processes that `parent` has started.
std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  std::ifstream list(concat("/proc/", parent, "/task/", parent, "/children"));
  for (pid_t child; list >> child;) found.push_back(child);
  return found;
}

TEST_F(MpirunTest, KillsOfOneRankOrAllAtRandomMomentsChangeNoBit) {
  const ScopedEnvironment at_once("OMPI_MCA_odls_base_sigkill_timeout", "0");  // no second of grace for the other rank
  const auto made = [&](const std::string& name) {
    TrainConfig two = config(name, 2);
    two.data.epoch_tokens = 24 * 6 * 32;
    two.data.shuffle_tokens = 1024;
    two.save_steps = 1;
    two.save_total_limit = 2;
    return two;
  };
  const auto start = Clock::now();
  const ProgramResult whole = run(2, {file_of(made("whole"))});
  ASSERT_EQ(whole.exit_code, 0) << whole.errors;
  const int64_t duration = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
  const std::string file = file_of(made("killed"));
  RandomSequence random(/*seed=*/6, /*stream=*/0);
  int kills = 0;
  for (int starts = 0; starts < 40 && kills < 6; ++starts) {
    RunningProgram job(mpirun_, with(2, {file}));
    const auto moment = Clock::now() + std::chrono::microseconds(duration / 4 + int64_t(random.below(uint64_t(duration) / 2)));
    while (job.running() && Clock::now() < moment) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::vector<pid_t> ranks = children_of(job.pid());
    if (kills % 2 == 0 && ranks.size() == 2) ranks.erase(ranks.begin() + int64_t(random.below(2)));
    for (const pid_t rank : ranks) ::kill(rank, SIGKILL);
    const bool killed = job.wait() != 0;
    kills += killed;
    if (!killed) fs::remove_all(folder_ / "killed");  // it had ended
  }
  EXPECT_EQ(kills, 6);
  const ProgramResult again = run(2, {file});
  ASSERT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_EQ(differences(folder_ / "whole", folder_ / "killed"), std::vector<std::string>{});
}

TEST_F(MpirunTest, TwoProcessesEndWithTheLossOfOne) {
  const ProgramResult one = run_executable(program_, {file_of(config("one", 1))});
  ASSERT_EQ(one.exit_code, 0) << one.errors;
  const ProgramResult two = run(2, {file_of(config("two", 2))});
  ASSERT_EQ(two.exit_code, 0) << two.errors;
  expect_contains(two.output, "2 processes, 1 thread(s) each");
  EXPECT_EQ(two.output.find("finished:"), two.output.rfind("finished:")) << "one process prints";
  EXPECT_NEAR(final_loss("two"), final_loss("one"), 1e-5 * final_loss("one"));
}

// Three, because the sum of two numbers is the same in either order.
TEST_F(MpirunTest, ThreeProcessesGiveTheBitsOfThreeThreads) {
  const TrainConfig threads = config("threads", 3);
  run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
    omp_set_num_threads(1);
    std::unique_ptr<RunRecorder> recorder = std::make_unique<RunRecorder>();
    if (ranks->is_first()) recorder = std::make_unique<RunFolder>(threads);
    SetupOptions setup;
    setup.communicator = ranks;
    TrainingRun run = prepare_run(threads, resolve_inputs(threads), setup);
    Trainer(run, *recorder).train();
  });
  const ProgramResult processes = run(3, {file_of(config("processes", 3))});
  ASSERT_EQ(processes.exit_code, 0) << processes.errors;
  EXPECT_EQ(differences(folder_ / "threads", folder_ / "processes"), std::vector<std::string>{});
  const ProgramResult sharded =
      run(3, {file_of(config("shards", 3)), "shard_optimizer=true", "shard_teacher=true", "gradient_bucket_mib=0.02"});
  ASSERT_EQ(sharded.exit_code, 0) << sharded.errors;
  EXPECT_EQ(differences(folder_ / "threads", folder_ / "shards"), std::vector<std::string>{});
}

TEST_F(MpirunTest, AMistakeIsReportedOnceAndEndsAllProcessesWithItsExitCode) {
  const ProgramResult result = run(2, {file_of(config("wrong", 2)), "data.path=/no/such/corpus"});
  EXPECT_EQ(result.exit_code, int(ExitCode::input_missing)) << result.errors;
  EXPECT_EQ(result.errors.find("error: "), result.errors.rfind("error: ")) << result.errors;
  expect_contains(result.errors, "/no/such/corpus");
  EXPECT_FALSE(fs::exists(folder_ / "wrong"));
}

}  // namespace
}  // namespace echo
