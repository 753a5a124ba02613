#include "kernels/vector_exp.h"

#include <gtest/gtest.h>

#include <vector>

namespace echo {
namespace {

using kernels::exponential;

TEST(VectorExpTest, RelativeErrorStaysBelowTheBoundOverTheWholeRange) {
  double worst = 0;
  // The step is not a power of two, so all fractions of ln 2 and all exponents occur.
  for (double x = -87.29; x < 88.72; x += 0.000137) {
    const double exact = std::exp(double(float(x)));
    worst = std::max(worst, std::abs(double(exponential(float(x))) - exact) / exact);
  }
  EXPECT_LT(worst, 1.5e-7);  // as the header says
  EXPECT_GT(worst, 1e-9);    // f32 cannot be more exact, so a smaller value would mean that nothing was compared
}

TEST(VectorExpTest, TheEndsOfTheRangeAreExact) {
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_EQ(exponential(-0.0f), 1.0f);
  EXPECT_EQ(exponential(-87.31f), 0.0f);
  EXPECT_EQ(exponential(-1e30f), 0.0f);
  EXPECT_EQ(exponential(-INFINITY), 0.0f);
  EXPECT_GE(exponential(-87.3f), std::numeric_limits<float>::min());
  EXPECT_TRUE(std::isfinite(exponential(88.72f)));
  EXPECT_EQ(exponential(88.73f), INFINITY);
  EXPECT_EQ(exponential(1e30f), INFINITY);
  EXPECT_EQ(exponential(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(exponential(std::nanf(""))));
  EXPECT_TRUE(std::isnan(exponential(-std::nanf(""))));
}

TEST(VectorExpTest, ALoopOverAnArrayGivesTheSameAsOneValue) {
  std::vector<float> x, y(10'001);
  for (int i = 0; i <= 10'000; ++i) x.push_back(-100.0f + 0.02f * float(i));
  x[17] = std::nanf("");
  for (size_t i = 0; i < x.size(); ++i) y[i] = exponential(x[i]);
  for (size_t i = 0; i < x.size(); ++i) {
    volatile float value = x[i];  // keeps this loop from being the vectorised one
    const float single = exponential(value);
    if (i == 17) {
      EXPECT_TRUE(std::isnan(y[i]));
    } else if (y[i] != single) {
      ASSERT_NEAR(y[i] / single, 1, 1.2e-7) << x[i];  // fused multiplications may round differently: one unit
    }
  }
}

TEST(VectorExpTest, F64IsTheLibrarys) { EXPECT_EQ(exponential(1.25), std::exp(1.25)); }

}  // namespace
}  // namespace echo
