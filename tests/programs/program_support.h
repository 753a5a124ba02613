#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace echo {

// How a child process ended, and what it wrote.
struct ProgramResult {
  int exit_code = -1;          // what it returned; -1 when a signal ended it
  int signal = 0;              // the signal that ended it, 0 when it returned
  bool timed_out = false;      // it was killed because it ran longer than `timeout`
  std::string output, errors;  // stdout and stderr
};

struct ProgramOptions {
  std::map<std::string, std::string> environment;  // added to the test's own; an empty value removes the variable
  std::filesystem::path folder;                    // working directory; empty: the test's own
  std::string input;                               // stdin; then it ends
  std::chrono::milliseconds timeout{60'000};       // then SIGKILL

  // Sends `signal` to the program when it has run for `signal_after`, if it still runs.
  std::optional<std::chrono::microseconds> signal_after;
  int signal = 9;
};

// Where the program is: $ECHOATT_PROGRAMS/<name>, else the newest build/*/bin/<name>. `name`: train, examples/regression, ...
// Empty when it was not built; a test then skips:
//   const auto program = find_program("train"); if (!program) GTEST_SKIP() << kNotBuilt;
std::optional<std::filesystem::path> find_program(const std::string& name);
inline constexpr const char* kNotBuilt = "the program is not built (make programs examples; or set ECHOATT_PROGRAMS)";

// Runs a program to its end, without a shell. Throws Error (internal) when it cannot be started.
ProgramResult run_executable(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                             const ProgramOptions& options = {});

// Expects that exit code, and as the last line of stderr one `error: ...` with all of these texts in it.
void expect_failure(const ProgramResult& result, ExitCode code, const std::vector<std::string>& texts);

}  // namespace echo
