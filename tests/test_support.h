#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace echo {

// The folder with reference values, small real models and corpora: $ECHOATT_SHARED, otherwise ../shared. Empty when there is
// none. A test that needs it is then skipped:  const auto shared = shared_folder(); if (!shared) GTEST_SKIP() <<
// kNoSharedFolder;
std::optional<std::filesystem::path> shared_folder();
inline constexpr const char* kNoSharedFolder = "no shared folder (set ECHOATT_SHARED, or put it at ../shared)";

// A new folder that is removed with its content by the destructor.
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

// Unlike write_file_atomically it does not wait for the disk. It removes an old file first: ext4 waits when a file is truncated
// and written again.
void write_file(const std::filesystem::path& path, std::string_view content);

// Sets an environment variable to `value`. The destructor restores its earlier value.
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

// Runs `body` and returns the message of the Error that it throws. Fails the test when it throws none, or one with another exit
// code.
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

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\nis not in\n" << text;
}

// A check between parts of the program fails, with `part` in its message.
template <class Body>
void expect_check_fails(const std::string& part, Body&& body) {
  expect_contains(error_message(ExitCode::internal, body), part);
}

}  // namespace echo
