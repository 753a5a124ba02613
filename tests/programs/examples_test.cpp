#include <gtest/gtest.h>

#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// Each example returns 0 only if it worked, and prints what it did.
void expect_runs(const std::string& name, const std::string& in_output) {
  const auto program = find_program("examples/" + name);
  if (!program) GTEST_SKIP() << kNotBuilt;
  ProgramOptions options;
  options.environment = {{"OMP_NUM_THREADS", "1"}};  // tiny operations: starting threads would take longer than the work
  const ProgramResult result = run_executable(*program, {}, options);
  EXPECT_EQ(result.exit_code, 0) << result.output << result.errors;
  EXPECT_NE(result.output.find(in_output), std::string::npos) << result.output;
  EXPECT_EQ(result.errors, "");
}

TEST(ExamplesTest, RegressionFitsItsCurve) { expect_runs("regression", "mean squared error"); }
TEST(ExamplesTest, CustomOperationAgreesWithFiniteDifferences) { expect_runs("custom_operation", "largest error"); }
TEST(ExamplesTest, TinyLlamaLearnsAndItsStudentIsDistilled) { expect_runs("tiny_llama", "held-out divergence"); }

}  // namespace
}  // namespace echo
