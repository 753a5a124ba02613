// ./train --nproc: how it starts, watches, stops and restarts its processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <thread>

#include "base/file.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/training_log.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

struct Process {
  pid_t id = 0, parent = 0;
  bool is_rank = true;  // false: it starts others
};

// The processes of this machine that run ./train with this configuration file.
std::vector<Process> processes_of(const std::string& config) {
  std::vector<Process> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    pid_t id = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), id).ec != std::errc()) continue;
    try {
      const std::string command = read_file(entry.path() / "cmdline"), status = read_file(entry.path() / "status");
      if (command.find(config) == std::string::npos || command.starts_with("mpirun") ||
          status.find("State:\tZ") != std::string::npos)
        continue;
      found.push_back({id, pid_t(std::stol(status.substr(status.find("PPid:") + 5)))});
    } catch (const Error&) {  // it has ended
    }
  }
  for (Process& process : found)
    for (const Process& other : found)
      if (other.parent == process.id || process.parent == ::getpid()) process.is_rank = false;
  return found;
}

class LaunchTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_program("train");
    if (!found) GTEST_SKIP() << kNotBuilt;
    program_ = *found;
    mpirun_ = find_mpirun();
    if (mpirun_.empty() || ECHO_WITH_MPI == 0) GTEST_SKIP() << kNoMpi;
    tiny_inputs();
  }
  ~LaunchTest() override {
    if (helper_.joinable()) helper_.join();
  }

  ProgramResult run(const fs::path& program, const std::vector<std::string>& arguments) {
    ProgramOptions options;
    options.environment = {{"OMP_WAIT_POLICY", "passive"},
                           {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                           {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                           {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                           {"ASAN_OPTIONS", "detect_leaks=0"}};  // MPI keeps memory to its end
    const ProgramResult result = run_executable(program, arguments, options);
    ended_ = Clock::now();
    return result;
  }
  // A run of two ranks, so long that it does not end by itself, or with `steps` steps.
  std::string config(const std::string& name, int64_t steps = 1'000'000) const {
    TrainConfig made = tiny_pretraining(folder_ / name);
    made.data.epoch_tokens = 1'000'000'000;
    made.max_steps = steps;
    made.save_steps = 20;
    made.eval_rows = 4;
    made.report = false;
    return written(made, folder_ / (name + ".yaml"));
  }
  // Sends the signal to the last rank, or to the process that looks after all, when the run has a checkpoint.
  void signal_later(const std::string& name, int signal, bool to_rank) {
    const std::string file = (folder_ / (name + ".yaml")).string();
    const fs::path log = folder_ / name / "checkpoint-20";
    helper_ = std::thread([=, this] {
      const auto limit = Clock::now() + std::chrono::seconds(50);
      while (!fs::exists(log) && Clock::now() < limit) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      pid_t target = 0;
      for (const Process& process : processes_of(file))
        if (process.is_rank == to_rank && (to_rank || process.parent == ::getpid())) target = process.id;
      signalled_ = Clock::now();
      if (target > 0) ::kill(target, signal);
    });
  }
  double seconds_after_signal() {
    helper_.join();
    return std::chrono::duration<double>(ended_ - signalled_).count();
  }

  const std::unique_ptr<TemporaryFolder> memory_ = memory_folder();
  const fs::path folder_ = memory_->path();
  fs::path program_, mpirun_;
  std::thread helper_;
  Clock::time_point signalled_, ended_;
};

void expect_one_error(const ProgramResult& result) {
  EXPECT_NE(result.errors.find("error: "), std::string::npos) << result.errors;
  EXPECT_EQ(result.errors.find("error: "), result.errors.rfind("error: ")) << result.errors;
}

TEST_F(LaunchTest, NprocStartsThatNumberOfProcessesWhichTrainTogether) {
  const ProgramResult two = run(program_, {config("two", 4), "--nproc", "2"});
  ASSERT_EQ(two.exit_code, 0) << two.errors;
  expect_contains(two.output, "2 processes, 1 thread(s) each");
  const ProgramResult automatic = run(program_, {config("auto", 4), "--nproc=auto", "--dry-run"});
  ASSERT_EQ(automatic.exit_code, 0) << automatic.errors;
  expect_contains(automatic.output, "--nproc auto: ");
}

TEST_F(LaunchTest, ARankThatIsKilledEndsAllWithinTenSecondsWithOneLineAnd69) {
  signal_later("killed", SIGKILL, /*to_rank=*/true);
  const ProgramResult result = run(program_, {config("killed"), "--nproc", "2"});
  EXPECT_EQ(result.exit_code, int(ExitCode::unavailable)) << result.errors;
  expect_contains(result.errors, "was ended by signal 9 (Killed)");
  expect_one_error(result);
  EXPECT_LT(seconds_after_signal(), 10);
  EXPECT_EQ(processes_of((folder_ / "killed.yaml").string()).size(), 0u);
}

TEST_F(LaunchTest, ARankThatMpirunStartedAndThatIsKilledEndsAllWith69) {
  signal_later("killed", SIGKILL, /*to_rank=*/true);
  const ProgramResult result = run(mpirun_, {"--quiet", "-n", "2", "--bind-to", "none", program_.string(), config("killed")});
  EXPECT_EQ(result.exit_code, int(ExitCode::unavailable)) << result.errors;
  expect_contains(result.errors, "was ended by signal 9 (Killed)");
  expect_one_error(result);
  EXPECT_LT(seconds_after_signal(), 10);
}

TEST_F(LaunchTest, ARankThatHangsEndsAllAtCommTimeout) {
  signal_later("stopped", SIGSTOP, /*to_rank=*/true);
  const ProgramResult result = run(program_, {config("stopped"), "comm_timeout=1", "--nproc", "2"});
  EXPECT_EQ(result.exit_code, int(ExitCode::unavailable)) << result.errors;
  expect_contains(result.errors, "another process did not answer for 1 s (comm_timeout)");
  expect_one_error(result);
  EXPECT_LT(seconds_after_signal(), 11);
  EXPECT_EQ(processes_of((folder_ / "stopped.yaml").string()).size(), 0u);
}

TEST_F(LaunchTest, ARunWhoseRankWasKilledIsRestartedAndEndsWithTheSameBits) {
  constexpr int64_t kSteps = 50;
  ASSERT_EQ(run(program_, {config("whole", kSteps), "--nproc", "2"}).exit_code, 0);
  signal_later("restarted", SIGKILL, /*to_rank=*/true);
  const ProgramResult result = run(program_, {config("restarted", kSteps), "--nproc", "2", "--max-restarts", "2"});
  helper_.join();
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  expect_contains(result.output, "restart 1 of 2: ");
  EXPECT_EQ(read_file(folder_ / "whole/final/model.safetensors"), read_file(folder_ / "restarted/final/model.safetensors"));
  int64_t restarts = 0;
  for (const nlohmann::json& line : TrainingLog::read(folder_ / "restarted/trainer_log.jsonl"))
    if (line["event"] == "restart") restarts = line["restarts"];
  EXPECT_EQ(restarts, 1);
}

TEST_F(LaunchTest, SigtermMakesAllSaveTheSameStepAndIsNoReasonToRestart) {
  signal_later("terminated", SIGTERM, /*to_rank=*/false);
  const ProgramResult result = run(program_, {config("terminated"), "--nproc", "2", "--max-restarts", "2"});
  EXPECT_EQ(result.exit_code, int(ExitCode::interrupted)) << result.errors;
  expect_contains(result.errors, "checkpoint saved: run the same command again");
  expect_one_error(result);
  EXPECT_EQ(result.output.find("restart"), std::string::npos) << result.output;
}

TEST_F(LaunchTest, RanksThatDifferInConfigurationProgramOrDataAreRefused) {
  const std::string file = config("differ", 4);
  const ProgramResult settings = run(mpirun_, {"--quiet", "--bind-to", "none", "-n", "1", program_.string(), file, ":", "-n",
                                               "1", program_.string(), file, "learning_rate=0.25"});
  EXPECT_EQ(settings.exit_code, int(ExitCode::config)) << settings.errors;
  expect_contains(settings.errors, "the processes differ: learning_rate is ");
  expect_contains(settings.errors, "0.25 on process(es) 1");
  // Another build of the program.
  fs::copy_file(program_, folder_ / "train");
  FILE* const copy = std::fopen((folder_ / "train").c_str(), "ab");
  std::fputc('x', copy);
  std::fclose(copy);
  const ProgramResult program = run(mpirun_, {"--quiet", "--bind-to", "none", "-n", "1", program_.string(), file, ":", "-n",
                                              "1", (folder_ / "train").string(), file});
  EXPECT_EQ(program.exit_code, int(ExitCode::config)) << program.errors;
  expect_contains(program.errors, "the program is ");
  // The same settings, but the folder of each process has another file at that path.
  for (const char* name : {"a", "b"}) {
    fs::create_directory(folder_ / name);
    write_file_atomically(folder_ / name / "text.txt", std::string(name[0] == 'a' ? 4000 : 5000, 'x'));
  }
  std::vector<std::string> arguments = {"--quiet", "--bind-to", "none"};
  for (const char* name : {"a", "b"})
    for (const std::string& word : {std::string("-n"), std::string("1"), std::string("--wdir"), (folder_ / name).string(),
                                    program_.string(), file, std::string("data.path=text.txt"), std::string(":")})
      arguments.push_back(word);
  arguments.pop_back();
  const ProgramResult data = run(mpirun_, arguments);
  EXPECT_EQ(data.exit_code, int(ExitCode::config)) << data.errors;
  expect_contains(data.errors, "the training data is ");
}

// Two ranks of one machine would have one thread each.
TEST_F(LaunchTest, RanksInTwoNetworkNamespacesAreOnTwoHosts) {
  const std::string script = fs::absolute("tests/programs/two_hosts.sh").string(), cable = "10.77.0.0/24";
  const ProgramResult result = run(script, {"mpirun",
                                            "--quiet",
                                            "--mca",
                                            "plm_rsh_agent",
                                            script,
                                            "--mca",
                                            "btl",
                                            "tcp,self",
                                            "--mca",
                                            "btl_tcp_if_include",
                                            cable,
                                            "--mca",
                                            "oob_tcp_if_include",
                                            cable,
                                            "--host",
                                            "10.77.0.1:1,10.77.0.2:1",
                                            "-n",
                                            "2",
                                            "--bind-to",
                                            "none",
                                            program_.string(),
                                            config("hosts", 4),
                                            "threads=0"});
  if (result.exit_code == 77) GTEST_SKIP() << "network namespaces are not permitted here, or ip and nsenter are missing";
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  expect_contains(result.output, concat("2 processes, ", std::thread::hardware_concurrency(), " thread(s) each"));
}

TEST_F(LaunchTest, ARankThatFailsEndsAllWithItsOwnExitCodeAndIsNamed) {
  const std::string file = config("failing");
  const ProgramResult result = run(mpirun_, {"--quiet", "--bind-to", "none", "-n", "1", program_.string(), file, ":", "-n", "1",
                                             program_.string(), file, "data.path=/no/such/corpus"});
  EXPECT_EQ(result.exit_code, int(ExitCode::input_missing)) << result.errors;
  expect_contains(result.errors, "error: process 1: ");
  expect_contains(result.errors, "/no/such/corpus");
}

}  // namespace
}  // namespace echo
