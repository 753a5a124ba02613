#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace echo {

// The exit code of a program whose main receives this error. The numbers follow sysexits.h where one fits.
enum class ExitCode : int {
  success = 0,
  usage = 64,          // command line
  bad_data = 65,       // a file exists but its content is wrong
  input_missing = 66,  // a file or folder is not there or cannot be read
  unavailable = 69,    // the network or the hub does not answer as it should; trying later may help
  internal = 70,       // a condition that this library itself guarantees was false
  device = 71,         // the device failed, or memory ran out
  io = 74,             // writing failed, disk full
  interrupted = 75,    // stopped on request after saving a checkpoint; the same command continues the run
  numerical = 76,      // losses are no longer finite
  no_permission = 77,  // the hub refuses: terms of a model are not accepted, or a token is wrong
  config = 78,         // the configuration is wrong
};

// The only exception type of the project: a message of one line for the user, and the exit code of the program.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Joins anything that has an operator<< into one string.
template <class... Parts>
std::string concat(Parts&&... parts) {
  std::ostringstream out;
  (out << ... << std::forward<Parts>(parts));
  return std::move(out).str();
}

// Throws an Error for a mistake outside the program: in a file, a setting or the command line.
template <class... Parts>
[[noreturn]] void fail(ExitCode code, Parts&&... parts) {
  throw Error(code, concat(std::forward<Parts>(parts)...));
}

namespace detail {
[[noreturn]] void throw_check_failure(const char* file, int line, const std::string& message);
}  // namespace detail

}  // namespace echo

// Throws Error (exit code 70) when `condition` is false. The message is built only then. Use it for shapes, dtypes and other
// conditions between parts of the program. For a user's mistake use fail() with a suitable exit code.
//   ECHO_CHECK(a.dim(-1) == b.dim(-2), "matmul: inner dimensions differ: a ", a.shape(), " x b ", b.shape());
//   -> matmul: inner dimensions differ: a (4, 128, 64) x b (32, 256) (kernels/matmul/matmul.cpp:41)
#define ECHO_CHECK(condition, ...)                                                          \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::echo::detail::throw_check_failure(__FILE__, __LINE__, ::echo::concat(__VA_ARGS__)); \
  } while (false)
