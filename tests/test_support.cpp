#include "tests/test_support.h"

#include <cstdlib>
#include <fstream>

namespace echo {

namespace fs = std::filesystem;

std::optional<fs::path> shared_folder() {
  const char* named = std::getenv("ECHOATT_SHARED");
  const fs::path folder = named != nullptr ? named : "../shared";
  std::error_code ignored;
  if (fs::is_directory(folder / "golden", ignored)) return folder;
  return std::nullopt;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "echo-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) fail(ExitCode::io, pattern, ": cannot be created");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void write_file(const fs::path& path, std::string_view content) {
  fs::remove(path);
  std::ofstream(path, std::ios::binary) << content;
}

ScopedEnvironment::ScopedEnvironment(const char* name, const std::string& value) : name_(name) {
  if (const char* const before = std::getenv(name); before != nullptr) before_ = before;
  ::setenv(name, value.c_str(), 1);
}

ScopedEnvironment::~ScopedEnvironment() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }

}  // namespace echo
