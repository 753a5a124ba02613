#include "analysis/similarity_statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/test_support.h"

namespace echo {
namespace {

TEST(SimilarityStatisticsTest, MeanAndStandardErrorFollowTheirDefinition) {
  SimilarityStatistics statistics(2);
  for (const double x : {0.2, 0.5, 0.9}) statistics.add(SquareMatrix(2, {1.0, x, x, 1.0}));
  EXPECT_EQ(statistics.count(), 3);
  const double mean = (0.2 + 0.5 + 0.9) / 3;
  double squares = 0.0;
  for (const double x : {0.2, 0.5, 0.9}) squares += (x - mean) * (x - mean);
  EXPECT_NEAR(statistics.mean()(0, 1), mean, 1e-15);  // f64 rounding
  EXPECT_NEAR((*statistics.standard_error())(1, 0), std::sqrt(squares / 2) / std::sqrt(3.0), 1e-15);
  EXPECT_EQ((*statistics.standard_error())(0, 0), 0.0);
}

TEST(SimilarityStatisticsTest, OneSampleHasNoStandardError) {
  SimilarityStatistics statistics(1);
  EXPECT_FALSE(statistics.standard_error().has_value());
  statistics.add(SquareMatrix(1, 0.5));
  EXPECT_FALSE(statistics.standard_error().has_value());
  EXPECT_EQ(statistics.mean()(0, 0), 0.5);
}

TEST(SimilarityStatisticsTest, RefusesAnotherSize) {
  SimilarityStatistics statistics(2);
  error_message(ExitCode::internal, [&] { statistics.add(SquareMatrix(3)); });
}

}  // namespace
}  // namespace echo
