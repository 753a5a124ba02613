// ./make_story_corpus and ./train_tokenizer from a user's point of view.
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// One line on stderr, and the exit code that all programs use for such a mistake.
void expect_refused(const std::string& program, const std::vector<std::string>& arguments, ExitCode code) {
  const ProgramResult result = run_executable(*find_program(program), arguments);
  expect_failure(result, code, {});
  EXPECT_TRUE(result.errors.starts_with("error: ")) << result.errors;
}

TEST(DataProgramsTest, MistakesEndWithOneLineAndTheExitCodeOfTheTable) {
  for (const char* program : {"make_story_corpus", "train_tokenizer"}) {
    if (!find_program(program)) GTEST_SKIP() << kNotBuilt;
    expect_refused(program, {"--no-such-option"}, ExitCode::usage);
  }
  const TemporaryFolder folder;
  write_file_atomically(folder / "file", "not a folder");
  expect_refused("make_story_corpus", {"--output", (folder / "file/corpus").string(), "--documents", "20"}, ExitCode::io);
  expect_refused("train_tokenizer", {"--data", (folder / "nowhere").string(), "--output", (folder / "t.model").string()},
                 ExitCode::input_missing);
}

}  // namespace
}  // namespace echo
