#include "base/program.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>

#include "base/error.h"

namespace echo {
namespace {

int report(ExitCode code, const std::string& message) {
  std::string line;
  for (const char c : message) {
    if (c != '\n' && c != '\r')
      line += c;
    else if (!line.empty() && !line.ends_with("; "))
      line += "; ";
  }
  while (line.ends_with("; ")) line.resize(line.size() - 2);
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s\n", line.c_str());
  return int(code);
}

int run_guarded(const std::function<int()>& body) {
  try {
    return body();
  } catch (const CLI::Error& error) {  // a program throws CLI::ValidationError to reject a combination of options
    return report(ExitCode::usage, std::string(error.what()) + " (--help lists the options)");
  } catch (const Error& error) {
    return report(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return report(ExitCode::device,
                  "out of memory; a smaller batch, shorter sequences or a smaller model need less, and other programs may be "
                  "holding memory");
  } catch (const std::filesystem::filesystem_error& error) {
    return report(ExitCode::io, error.what());
  } catch (const std::exception& error) {
    return report(ExitCode::internal, std::string("unexpected: ") + error.what());
  } catch (...) {
    return report(ExitCode::internal, "unexpected: an exception of unknown type");
  }
}

}  // namespace

int run_program(const std::function<int()>& body) noexcept {
  try {
    return run_guarded(body);
  } catch (...) {  // there was no memory even for the message
    std::fputs("error: out of memory\n", stderr);
    return int(ExitCode::device);
  }
}

int run_program(CLI::App& app, int argc, const char* const* argv, const std::function<int()>& body) noexcept {
  return run_program([&]() -> int {
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& request) {  // --help, --version: CLI11 prints them to stdout
      return app.exit(request);
    }
    return body();
  });
}

}  // namespace echo
