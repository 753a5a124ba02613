#include "tests/faults/file_calls.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <vector>

#include "base/file.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// If this fails, the tests of this folder see less than the system does.
TEST(FileCallsTest, SeeWhatTheLibraryAndTheStandardLibraryDo) {
  const TemporaryFolder folder;
  std::vector<std::string> seen;
  {
    const FileCallWatch watch(folder.path(), [&](const FileCall& call) {
      seen.push_back(std::string(name_of(call.kind)) + " " + call.path.filename().string());
      return FileCallResult{};
    });
    fs::create_directory(folder / "a");
    write_file_atomically(folder / "a/file", "text");
    read_file(folder / "a/file");
    std::ofstream(folder / "a/stream") << "text" << std::flush;
    fs::rename(folder / "a", folder / "b");
    fs::remove_all(folder / "b");
  }
  fs::create_directory(folder / "not watched");
  const std::string temporary = "file.tmp-" + std::to_string(::getpid());
  const std::vector<std::string> expected = {"make_folder a",       "create " + temporary,
                                             "write " + temporary,  "sync " + temporary,
                                             "rename " + temporary, "sync a",
                                             "read file",
                                             "read file",  // the end
                                             "write stream",        "rename a"};
  ASSERT_EQ(seen.size(), expected.size() + 3);
  EXPECT_EQ(std::vector<std::string>(seen.begin(), seen.begin() + ptrdiff_t(expected.size())), expected);
  EXPECT_EQ(seen.back(), "remove b");  // after the files in it
}

TEST(FileCallsTest, CanFailAndWritesCanBeShort) {
  const TemporaryFolder folder;
  {
    const FileCallWatch watch(folder.path(), [](const FileCall& call) {
      return call.kind == FileCall::Kind::write ? FileCallResult{.most_bytes = 3} : FileCallResult{};
    });
    write_file_atomically(folder / "file", "a text in pieces");
  }
  EXPECT_EQ(read_file(folder / "file"), "a text in pieces");
  const FileCallWatch watch(
      folder.path(), [](const FileCall& call) { return FileCallResult{.error = call.kind == FileCall::Kind::sync ? EIO : 0}; });
  expect_contains(error_message(ExitCode::io, [&] { write_file_atomically(folder / "file", "b"); }), "Input/output error");
}

}  // namespace
}  // namespace echo
