// ./train with several processes, started by mpirun.
#include <gtest/gtest.h>
#include <omp.h>

#include "base/file.h"
#include "communication/thread_ranks.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace echo {
namespace {

using nlohmann::json;

class MpirunTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_program("train");
    if (!found) GTEST_SKIP() << kNotBuilt;
    program_ = *found;
    for (const char* path : {"/usr/bin/mpirun", "/usr/local/bin/mpirun"})
      if (fs::exists(path) && mpirun_.empty()) mpirun_ = path;
    if (mpirun_.empty() || ECHO_WITH_MPI == 0) GTEST_SKIP() << "no MPI (install libopenmpi-dev and openmpi-bin)";
  }
  ProgramResult run(int processes, std::vector<std::string> arguments) {
    ProgramOptions options;
    options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                           {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                           {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                           {"OMP_WAIT_POLICY", "passive"},
                           {"ASAN_OPTIONS", "detect_leaks=0"}};  // MPI keeps memory to its end
    arguments.insert(arguments.begin(), {"-n", std::to_string(processes), "--bind-to", "none", program_.string()});
    return run_executable(mpirun_, arguments, options);
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
};

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
  const ProgramResult sharded = run(3, {file_of(config("shards", 3)), "shard_optimizer=true", "gradient_bucket_mib=0.02"});
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
