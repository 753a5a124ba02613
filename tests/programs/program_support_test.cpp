#include "tests/programs/program_support.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "tests/test_support.h"

namespace echo {
namespace {

using namespace std::chrono_literals;

ProgramResult run_shell(const std::string& script, const ProgramOptions& options = {}) {
  return run_executable("/bin/sh", {"-c", script}, options);
}

TEST(ProgramSupportTest, StreamsAndExitCodeComeBack) {
  const ProgramResult result = run_shell("echo out; echo err >&2; exit 66");
  EXPECT_EQ(result.exit_code, 66);
  EXPECT_EQ(result.signal, 0);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.errors, "err\n");
}

TEST(ProgramSupportTest, MoreThanAPipeHoldsPassesInBothDirections) {
  ProgramOptions options;
  options.input = std::string(1'000'000, 'x');
  EXPECT_EQ(run_shell("cat", options).output, options.input);
  EXPECT_EQ(run_shell("exit 3", options).exit_code, 3);  // input that nobody reads
}

TEST(ProgramSupportTest, EnvironmentAndFolderAreSet) {
  const TemporaryFolder folder;
  ProgramOptions options;
  options.environment = {{"ECHO_TEST_VALUE", "a b"}, {"HOME", ""}};
  options.folder = folder.path();
  EXPECT_EQ(run_shell("echo \"$ECHO_TEST_VALUE|${HOME-unset}\"; pwd", options).output,
            "a b|unset\n" + std::filesystem::canonical(folder.path()).string() + "\n");
}

TEST(ProgramSupportTest, AProgramIsKilledAtTheGivenMoment) {
  ProgramOptions options;
  options.signal_after = 1s;  // the shell has begun by then, also on a loaded machine and under a sanitizer
  const auto start = std::chrono::steady_clock::now();
  const ProgramResult killed = run_shell("echo begun; exec sleep 30", options);
  EXPECT_EQ(killed.signal, SIGKILL);
  EXPECT_EQ(killed.exit_code, -1);
  EXPECT_FALSE(killed.timed_out);
  EXPECT_EQ(killed.output, "begun\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  options.signal = SIGTERM;
  EXPECT_EQ(run_shell("trap 'exit 75' TERM; while :; do sleep 0.01; done", options).exit_code, 75);
}

TEST(ProgramSupportTest, AProgramThatRunsTooLongIsKilled) {
  ProgramOptions options;
  options.timeout = 50ms;
  const ProgramResult result = run_shell("exec sleep 30", options);
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.signal, SIGKILL);
}

TEST(ProgramSupportTest, AMissingProgramIsAnError) {
  EXPECT_NE(error_message(ExitCode::internal, [] { run_executable("no/such/program", {}); }).find("cannot be started"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
