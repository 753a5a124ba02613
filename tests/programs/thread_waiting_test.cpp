// How long the programs' threads spin before they sleep, as reported by the OpenMP library itself.
#include <gtest/gtest.h>

#include "tests/programs/program_support.h"

namespace echo {
namespace {

// The setting that the library read when it was last loaded, because a program may have started itself again.
std::string setting_of(const std::string& program, const std::string& setting, std::map<std::string, std::string> environment) {
  environment.insert({"OMP_DISPLAY_ENV", "VERBOSE"});
  environment.insert({"OMP_WAIT_POLICY", ""});  // removed unless the case sets it
  environment.insert({"GOMP_SPINCOUNT", ""});
  ProgramOptions options;
  options.environment = std::move(environment);
  const ProgramResult result = run_executable(*find_program(program), {"--help"}, options);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const std::string start = setting + " = '";
  const size_t at = result.errors.rfind(start);
  if (at == std::string::npos) return "not reported: " + result.errors;
  return result.errors.substr(at + start.size(), result.errors.find('\'', at + start.size()) - at - start.size());
}

TEST(ThreadWaitingTest, ProgramsShortenItUnlessTheUserSaysOtherwise) {
  for (const char* program : {"train", "generate", "analyze"}) {
    if (!find_program(program)) GTEST_SKIP() << kNotBuilt;
    EXPECT_EQ(setting_of(program, "GOMP_SPINCOUNT", {}), "1000") << program;
    EXPECT_EQ(setting_of(program, "GOMP_SPINCOUNT", {{"GOMP_SPINCOUNT", "77"}}), "77") << program;
    EXPECT_EQ(setting_of(program, "OMP_WAIT_POLICY", {{"OMP_WAIT_POLICY", "active"}}), "ACTIVE") << program;
    EXPECT_NE(setting_of(program, "GOMP_SPINCOUNT", {{"OMP_WAIT_POLICY", "active"}}), "1000") << program;
  }
}

TEST(ThreadWaitingTest, ArgumentsAndNameComeThroughTheSecondStart) {
  if (!find_program("generate")) GTEST_SKIP() << kNotBuilt;
  ProgramOptions options;
  options.environment = {{"OMP_WAIT_POLICY", ""}, {"GOMP_SPINCOUNT", ""}};
  const ProgramResult result = run_executable(*find_program("generate"), {"--no such option", "--model", "a b"}, options);
  EXPECT_EQ(result.exit_code, 64) << result.errors;
  EXPECT_NE(result.errors.find("--no such option"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace echo
