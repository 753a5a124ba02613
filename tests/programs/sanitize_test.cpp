// scripts/sanitize.sh, with a fake sanitizer.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

class SanitizeTest : public testing::Test {
 protected:
  // A sanitizer that prints its arguments, and reports a finding for the tool `failing`.
  ProgramResult sanitize(const std::string& failing, const std::vector<std::string>& arguments) {
    const fs::path file = folder_ / "compute-sanitizer";
    write_file(file, concat("#!/bin/sh\necho \"$@\"\n[ \"$2\" != \"", failing, "\" ]\n"));
    fs::permissions(file, fs::perms::owner_all);
    ProgramOptions options;
    options.environment["COMPUTE_SANITIZER"] = file.string();
    return run_executable("scripts/sanitize.sh", arguments, options);
  }

  TemporaryFolder folder_;
};

TEST_F(SanitizeTest, EveryToolRunsAndOneThatFindsSomethingFails) {
  if (!fs::exists("scripts/sanitize.sh")) GTEST_SKIP() << "not in the project's folder";
  const ProgramResult clean = sanitize("none", {"bin/run_tests"});
  EXPECT_EQ(clean.exit_code, 0) << clean.errors;
  for (const char* tool : {"memcheck", "racecheck", "synccheck", "initcheck"})
    EXPECT_NE(clean.output.find(std::string("--tool ") + tool + ' '), std::string::npos) << clean.output;
  EXPECT_NE(clean.output.find("bin/run_tests --gtest_brief=1 --gtest_filter=*Cuda*:-"), std::string::npos) << clean.output;

  const ProgramResult dirty = sanitize("racecheck", {"bin/run_tests", "CudaAttentionTest.*"});
  EXPECT_EQ(dirty.exit_code, 1);
  EXPECT_NE(dirty.errors.find("not clean: racecheck"), std::string::npos) << dirty.errors;
  EXPECT_NE(dirty.output.find("--tool initcheck"), std::string::npos) << "the other tools run too";
  EXPECT_NE(dirty.output.find("--gtest_filter=CudaAttentionTest.*"), std::string::npos) << dirty.output;
}

TEST_F(SanitizeTest, WithoutTheToolItSaysWhereItComesFrom) {
  if (!fs::exists("scripts/sanitize.sh")) GTEST_SKIP() << "not in the project's folder";
  ProgramOptions options;
  options.environment["COMPUTE_SANITIZER"] = (folder_ / "nothing").string();
  const ProgramResult result = run_executable("scripts/sanitize.sh", {"bin/run_tests"}, options);
  EXPECT_EQ(result.exit_code, 66);
  EXPECT_NE(result.errors.find("CUDA Toolkit"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace echo
