#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace echo {

// The frame of every program's main. Parses the command line, runs `body`, and turns every failure into one line
// `error: ...` on stderr and an exit code:
//   the command line does not parse -> usage (64), with a pointer to --help;   --help and --version print to stdout -> 0
//   Error                           -> its own code
//   std::bad_alloc                  -> device (71), with advice
//   a file-system exception         -> io (74)
//   any other exception             -> internal (70)
// Without a failure it returns what `body` returns. Line breaks inside a message become "; ", so that scripts can rely on one
// line. Never throws.
//   int main(int argc, char** argv) {
//     CLI::App app("Says what a model's layers have in common.");
//     Options options;
//     app.add_option("--model", options.model, "folder of the model");
//     return echo::run_program(app, argc, argv, [&] { return analyze(options); });
//   }
int run_program(CLI::App& app, int argc, const char* const* argv, const std::function<int()>& body) noexcept;

// The same for a program without a command line, or one that parses its own.
int run_program(const std::function<int()>& body) noexcept;

}  // namespace echo
