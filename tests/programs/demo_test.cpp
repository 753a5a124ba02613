// `make demo` at a tenth of its size, with the same script.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/markup_check.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(DemoTest, ATenthOfItGivesTheTableTextAndReports) {
  const auto train = find_program("train");
  if (!train || !find_program("compare_models")) GTEST_SKIP() << kNotBuilt;
  const TemporaryFolder folder;
  const fs::path work = folder / "demo";
  ProgramOptions options;
  options.environment = {
      {"DEMO_SCALE", "10"}, {"DEMO_FOLDER", work.string()}, {"ECHOATT_PROGRAMS", fs::absolute(train->parent_path()).string()}};
  options.timeout = std::chrono::minutes(5);
  const ProgramResult result = run_executable("scripts/demo.sh", {}, options);
  ASSERT_EQ(result.exit_code, 0) << result.output << result.errors;

  // The table: teacher, student untrained, after stage 1, after stage 2, labels only.
  const auto table = nlohmann::json::parse(read_file(work / "comparison.json"));
  ASSERT_EQ(table.size(), 5u);
  for (const auto& row : table) {
    EXPECT_NE(result.output.find(row["model"].get<std::string>()), std::string::npos);
    for (const char* key : {"parameters", "loss", "kl_teacher_student", "agreement", "tokens_per_second"})
      EXPECT_TRUE(row[key].is_number() && std::isfinite(row[key].get<double>())) << row;
  }
  EXPECT_EQ(table[0]["agreement"], 1.0);
  for (size_t i = 1; i < 5; ++i) EXPECT_LT(table[i]["parameters"].get<int64_t>(), table[0]["parameters"].get<int64_t>());
  EXPECT_LT(table[0]["loss"].get<double>(), std::log(512) - 1);  // the teacher has learnt more than the frequencies of tokens
  // The test does not say which student is nearest to the teacher, because at a tenth of the size that may vary.

  for (const char* file : {"student/report.html", "teacher/report.html", "analysis/report.html", "labels/final/config.json"})
    EXPECT_TRUE(fs::exists(work / file)) << file;
  for (const char* file : {"analysis/similarity.svg", "comparison.svg"})  // the pictures of the README
    EXPECT_EQ(markup_problem(read_file(work / file)), "") << file;
  EXPECT_NE(read_file(work / "comparison.svg").find("true labels only"), std::string::npos);
  for (const char* text : {"Once upon a time", "Try next:", "student/report.html"})
    EXPECT_NE(result.output.find(text), std::string::npos) << text;
}

TEST(DemoTest, AFolderThatItDidNotMakeIsLeftAlone) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "precious", "");
  ProgramOptions options;
  options.environment = {{"DEMO_FOLDER", folder.path().string()}};
  EXPECT_EQ(run_executable("scripts/demo.sh", {}, options).exit_code, 64);
  EXPECT_TRUE(fs::exists(folder / "precious"));
}

}  // namespace
}  // namespace echo
