#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"

namespace echo {

// Where reference values, small real models and corpora live: $ECHOATT_SHARED, else ../shared. Empty when there is none; a test
// that needs it then skips:  const auto shared = shared_folder(); if (!shared) GTEST_SKIP() << kNoSharedFolder;
std::optional<std::filesystem::path> shared_folder();
inline constexpr const char* kNoSharedFolder = "no shared folder (set ECHOATT_SHARED, or put it at ../shared)";

// A fresh folder that is removed with all it holds when the object goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A variable of the environment has `value` while this lives, and then what it had before.
class ScopedEnvironment {
 public:
  ScopedEnvironment(const char* name, const std::string& value);
  ~ScopedEnvironment();
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// Runs `body` and returns the message of the Error it throws; fails the test when it throws none, or another exit code.
//   EXPECT_NE(error_message(ExitCode::bad_data, [&] { ... }).find("text"), std::string::npos);
template <class Code, class Body>
std::string error_message(Code code, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(int(error.code()), int(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

}  // namespace echo
