#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace echo {

// What every program's main does around its work: parses the command line, runs `body` and turns each way to fail into one
// line `error: ...` on stderr and an exit code.
//   the command line does not parse -> usage (64), with a pointer to --help;   --help and --version print to stdout -> 0
//   Error                           -> its own code
//   std::bad_alloc                  -> device (71), with what to try
//   a file-system exception         -> io (74)
//   any other exception             -> internal (70)
// Otherwise the program's status is what `body` returns. Line breaks inside a message are kept as "; ", so that a script
// can rely on one line. Never throws.
//   int main(int argc, char** argv) {
//     CLI::App app("Says what a model's layers have in common.");
//     Options options;
//     app.add_option("--model", options.model, "folder of the model");
//     return echo::run_program(app, argc, argv, [&] { return analyze(options); });
//   }
int run_program(CLI::App& app, int argc, const char* const* argv, const std::function<int()>& body) noexcept;

// The same for a program that reads no command line, or reads it by itself.
int run_program(const std::function<int()>& body) noexcept;

}  // namespace echo
