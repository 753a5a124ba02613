#include "communication/launch_options.h"

#include <CLI/CLI.hpp>
#include <filesystem>

namespace echo {

void add_launch_options(CLI::App& app, LaunchOptions& options) {
  app.add_option("--nproc", options.processes,
                 "start this number of processes on this machine, which train together; auto: one for each GPU");
  app.add_option("--max-restarts", options.most_restarts,
                 "when a process is killed, hangs or loses its device, start all of them again from the last checkpoint, at "
                 "most so many times")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--grace", options.grace_seconds,
                 "with --nproc or --max-restarts: seconds after Ctrl-C or SIGTERM until the processes are killed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

std::vector<std::string> command_of_rank(int argc, const char* const* argv) {
  std::vector<std::string> command = {std::filesystem::read_symlink("/proc/self/exe")};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i], name = argument.substr(0, argument.find('='));
    if (name != "--nproc" && name != "--max-restarts" && name != "--grace")
      command.push_back(argument);
    else if (name == argument)
      ++i;  // its value follows
  }
  return command;
}

}  // namespace echo
