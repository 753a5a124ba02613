#include "communication/started_rank.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "communication/launch.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// While an object of this class lives, the environment has these of the variables that starters set, and no others.
class Environment {
 public:
  explicit Environment(std::map<std::string, std::string> values) {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
                             "OMPI_COMM_WORLD_LOCAL_RANK", "PMIX_RANK", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
                             "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE", "SLURM_PROCID", "SLURM_NTASKS",
                             "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"})
      variables_.push_back(std::make_unique<ScopedEnvironment>(name, values[name]));
  }

 private:
  std::vector<std::unique_ptr<ScopedEnvironment>> variables_;
};

void expect_rank(const StartedRank& started, StartedRank::Starter starter, std::vector<int64_t> numbers) {
  EXPECT_EQ(started.starter, starter);
  EXPECT_EQ((std::vector<int64_t>{started.rank, started.world, started.local_rank, started.local_world}), numbers);
}

using Starter = StartedRank::Starter;

TEST(StartedRankTest, TheVariablesOfEachStarterAreUnderstood) {
  {
    const Environment none({});
    expect_rank(started_rank(), Starter::nobody, {0, 1, 0, 1});
  }
  {
    const Environment mpirun({{"OMPI_COMM_WORLD_SIZE", "4"},
                              {"OMPI_COMM_WORLD_RANK", "3"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"RANK", "0"},
                              {"WORLD_SIZE", "2"}});
    expect_rank(started_rank(), Starter::mpi, {3, 4, 1, 2});
  }
  {
    const Environment torchrun({{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"}});
    expect_rank(started_rank(), Starter::torchrun, {5, 8, 1, 4});
  }
  {
    const Environment srun({{"SLURM_PROCID", "6"},
                            {"SLURM_NTASKS", "8"},
                            {"SLURM_STEP_NUM_TASKS", "8"},
                            {"SLURM_LOCALID", "2"},
                            {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"}});
    expect_rank(started_rank(), Starter::slurm, {6, 8, 2, 4});
  }
}

TEST(StartedRankTest, ASlurmBatchScriptIsNoStep) {
  const Environment batch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "0"}});
  EXPECT_EQ(started_rank().world, 1);
}

TEST(StartedRankTest, AWrongNumberNamesItsVariable) {
  const Environment torchrun({{"RANK", "8"}, {"WORLD_SIZE", "8"}});
  expect_contains(error_message(ExitCode::usage, [] { started_rank(); }), "RANK=8 in the environment; a number from 0 to 7");
}

TEST(StartedRankTest, TheMasterIsAtMasterPortOrAfterTheStoreOfTorchrun) {
  {
    const Environment plain({{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}});
    EXPECT_EQ(master_address(), "node1:29500");
  }
  {
    const Environment store({{"MASTER_ADDR", "fd00::1"}, {"MASTER_PORT", "29500"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
    EXPECT_EQ(master_address(), "[fd00::1]:29501");
  }
  const Environment none({});
  expect_contains(error_message(ExitCode::usage, [] { master_address(); }), "MASTER_ADDR=node1 MASTER_PORT=29500");
}

TEST(StartedRankTest, ProcessesWithoutGpusThatMpiDidNotStartAreToldWhichStarterToUse) {
  const StartedRank started{Starter::torchrun, 1, 4, 1, 4};
  if (ECHO_WITH_NCCL == 1) GTEST_SKIP() << "this build may have GPUs";
  const std::string message = error_message(ExitCode::usage, [&] { connect_processes(started); });
  expect_contains(message, "started by torchrun as one of 4 processes");
  expect_contains(message, "mpirun -n 4 --bind-to none");
}

TEST(StartedRankTest, TheCommandOfARankIsWithoutTheOptionsOfItsStart) {
  const char* const arguments[] = {"train", "c.yaml", "--nproc", "4", "--max-restarts=3", "a=b", "--grace", "9", "--dry-run"};
  const std::vector<std::string> command = command_of_rank(9, arguments);
  EXPECT_EQ(std::vector<std::string>(command.begin() + 1, command.end()),
            (std::vector<std::string>{"c.yaml", "a=b", "--dry-run"}));
}

TEST(StartedRankTest, AWrongNumberOfProcessesIsRefused) {
  const Environment none({});
  LaunchOptions options;
  for (const char* number : {"0", "-1", "two", "4x", "1025"}) {
    options.processes = number;
    expect_contains(error_message(ExitCode::usage, [&] { run_other_processes(options, {"false"}); }),
                    "a number from 1 to 1024");
  }
  const Environment mpirun({{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "0"}});
  options.processes = "2";
  expect_contains(error_message(ExitCode::usage, [&] { run_other_processes(options, {"false"}); }),
                  "mpirun has already started");
}

}  // namespace
}  // namespace echo
