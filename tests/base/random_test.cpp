#include "base/random.h"

#include <gtest/gtest.h>

namespace echo {
namespace {

TEST(RandomTest, PhiloxMatchesThePublishedKnownAnswers) {
  // The two vectors of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds) that fit a 64-bit key and index.
  EXPECT_EQ(Philox(0, 0).words(0), (std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(Philox(~0ull, ~0ull).words(~0ull), (std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
}

TEST(RandomTest, NormalHasMeanZeroAndVarianceOne) {
  double sum = 0, squares = 0;
  const int n = 100000;
  RandomSequence random(3);
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 0.016);      // five standard errors
  EXPECT_NEAR(squares / n, 1, 0.023);  // likewise: the variance of x^2 is 2
}

TEST(RandomTest, BelowCoversItsRangeAndNoMore) {
  int counts[7] = {};
  RandomSequence random(4);
  for (int i = 0; i < 7000; ++i) ++counts[random.below(7)];
  for (int count : counts) EXPECT_NEAR(count, 1000, 150);
}

}  // namespace
}  // namespace echo
