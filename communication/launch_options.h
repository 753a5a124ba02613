#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace echo {

// What a person asked for on the command line.
struct LaunchOptions {
  std::string processes;      // --nproc: a number, or auto for one process per GPU. Empty: not given
  int64_t most_restarts = 0;  // --max-restarts
  double grace_seconds = 30;  // --grace
  std::function<void(const std::string& line)> remark = [](const std::string&) {};
};

// Adds these options to a program. `options` must outlive the parsing.
void add_launch_options(CLI::App& app, LaunchOptions& options);

// This program and its arguments without those of LaunchOptions: the command of one rank.
std::vector<std::string> command_of_rank(int argc, const char* const* argv);

}  // namespace echo
