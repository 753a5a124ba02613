#include "training/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace echo {
namespace {

double sum_of(const std::vector<double>& numbers) {
  ExactSum sum;
  for (const double number : numbers) sum.add(number);
  return ExactSum::value(sum.parts());
}

TEST(ExactSumTest, OneNumberIsItself) {
  for (const double number : {0.0, 1.0, 0.1, 3e300, 1e-310, std::numeric_limits<double>::denorm_min(),
                              std::numeric_limits<double>::max(), std::numeric_limits<double>::min()})
    EXPECT_EQ(sum_of({number}), number);
}

TEST(ExactSumTest, NothingIsLostBesideALargeNumber) {
  std::vector<double> numbers(1024, 0x1p-60);
  numbers.insert(numbers.begin(), 1.0);
  EXPECT_EQ(sum_of(numbers), 1.0 + 0x1p-50);
}

TEST(ExactSumTest, NeitherTheOrderNorTheDivisionAmongRanksChangesABit) {
  RandomSequence random(5);
  std::vector<double> numbers;
  for (int i = 0; i < 3000; ++i) numbers.push_back(std::ldexp(double(random.below(1 << 30)), int(random.below(200)) - 100));
  const double expected = sum_of(numbers);
  std::reverse(numbers.begin(), numbers.end());
  EXPECT_EQ(sum_of(numbers), expected);
  ExactSum ranks[3];
  for (size_t i = 0; i < numbers.size(); ++i) ranks[i * i % 3].add(numbers[i]);
  std::vector<double> parts = ranks[0].parts();
  for (const int rank : {1, 2})
    for (size_t i = 0; i < parts.size(); ++i) parts[i] += ranks[rank].parts()[i];
  EXPECT_EQ(ExactSum::value(parts), expected);
}

TEST(ExactSumTest, WhatIsNotFiniteStaysSo) {
  EXPECT_EQ(sum_of({1, std::numeric_limits<double>::infinity()}), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(sum_of({std::nan(""), 1})));
}

}  // namespace
}  // namespace echo
