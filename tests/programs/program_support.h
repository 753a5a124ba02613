#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace echo {

// The result of a child process: how it ended, and what it wrote.
struct ProgramResult {
  int exit_code = -1;          // its return value; -1 when a signal ended it
  int signal = 0;              // the signal that ended it, 0 when it returned
  bool timed_out = false;      // it was killed because it ran longer than `timeout`
  std::string output, errors;  // stdout and stderr
};

struct ProgramOptions {
  std::map<std::string, std::string> environment;  // added to the test's own; an empty value removes the variable
  std::filesystem::path folder;                    // working directory; empty: the test's own
  std::string input;                               // the content of stdin
  std::chrono::milliseconds timeout{60'000};       // then SIGKILL

  // Sends `signal` to the program if it still runs after `signal_after`.
  std::optional<std::chrono::microseconds> signal_after;
  int signal = 9;
};

// The path of the program: $ECHOATT_PROGRAMS/<name>, otherwise the newest build/*/bin/<name>. `name`: train,
// examples/regression, ... Empty when it was not built. A test is then skipped:
//   const auto program = find_program("train"); if (!program) GTEST_SKIP() << kNotBuilt;
std::optional<std::filesystem::path> find_program(const std::string& name);
inline constexpr const char* kNotBuilt = "the program is not built (make programs examples; or set ECHOATT_PROGRAMS)";

// The path of mpirun. Empty when it is not installed.
std::filesystem::path find_mpirun();
inline constexpr const char* kNoMpi = "no MPI (install libopenmpi-dev and openmpi-bin)";

// Runs a program to its end, without a shell. Throws Error (internal) when it cannot be started.
ProgramResult run_executable(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                             const ProgramOptions& options = {});

// Expects that exit code, and as the last line of stderr one `error: ...` with all of these texts in it.
void expect_failure(const ProgramResult& result, ExitCode code, const std::vector<std::string>& texts);

}  // namespace echo
