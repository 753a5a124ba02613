// scripts/run_shards.sh, with a program that only prints its share.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

TEST(RunShardsTest, EveryShareRunsAndOneThatFailsFails) {
  if (!fs::exists("scripts/run_shards.sh")) GTEST_SKIP() << "not in the project's folder";
  const TemporaryFolder folder;
  const fs::path program = folder / "tests";
  write_file(program,
             "#!/bin/sh\necho share $GTEST_SHARD_INDEX of $GTEST_TOTAL_SHARDS: $1\n[ $GTEST_SHARD_INDEX != \"$1\" ]\n");
  fs::permissions(program, fs::perms::owner_all);
  const ProgramResult good = run_executable("scripts/run_shards.sh", {program.string(), "none"});
  EXPECT_EQ(good.exit_code, 0) << good.errors;
  const size_t of = good.output.find(" of ");
  ASSERT_NE(of, std::string::npos) << good.output;
  const int shares = std::atoi(good.output.c_str() + of + 4);
  EXPECT_GE(shares, 1);
  for (int i = 0; i < shares; ++i)
    EXPECT_NE(good.output.find(concat("share ", i, " of ", shares, ": none\n")), std::string::npos) << good.output;
  EXPECT_EQ(run_executable("scripts/run_shards.sh", {program.string(), "0"}).exit_code, 1);
  EXPECT_EQ(run_executable("scripts/run_shards.sh", {program.string(), concat(shares - 1)}).exit_code, 1);
}

}  // namespace
}  // namespace echo
