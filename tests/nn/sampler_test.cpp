#include "nn/sampler.h"

#include <cmath>
#include <limits>
#include <map>

#include "tests/test_support.h"

namespace echo {
namespace {

Tensor logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(float(std::log(p)));
  return Tensor::from(logits);
}

// How often each id is chosen in `count` choices.
std::map<int32_t, double> frequencies(const SamplingOptions& options, const Tensor& logits, int count = 20'000) {
  Sampler sampler(options);
  std::map<int32_t, double> result;
  for (int i = 0; i < count; ++i) result[sampler.choose(logits)] += 1.0 / count;
  return result;
}

TEST(SamplerTest, TemperatureZeroTakesTheLargestLogitAndTheLowestIdOfEqualOnes) {
  Sampler sampler({});
  EXPECT_EQ(sampler.choose(Tensor::from(std::vector<float>{1, 3, 2, 3})), 1);
  EXPECT_EQ(sampler.choose(Tensor::from(std::vector<double>{-5, -7, -5})), 0);
}

TEST(SamplerTest, ChoicesFollowTheProbabilities) {
  const auto seen = frequencies({.temperature = 1, .seed = 3}, logits_of({0.5, 0.2, 0.3}));
  // 20,000 choices: the standard deviation of a frequency is at most 0.0036.
  EXPECT_NEAR(seen.at(0), 0.5, 0.018);
  EXPECT_NEAR(seen.at(1), 0.2, 0.018);
  EXPECT_NEAR(seen.at(2), 0.3, 0.018);
}

TEST(SamplerTest, TemperatureRaisesProbabilitiesToItsInverse) {
  const auto seen = frequencies({.temperature = 0.5, .seed = 3}, logits_of({0.5, 0.2, 0.3}));
  const double total = 0.25 + 0.04 + 0.09;
  EXPECT_NEAR(seen.at(0), 0.25 / total, 0.018);
  EXPECT_NEAR(seen.at(1), 0.04 / total, 0.018);
  EXPECT_NEAR(seen.at(2), 0.09 / total, 0.018);
}

TEST(SamplerTest, TopKLeavesTheKMostLikely) {
  const auto seen = frequencies({.temperature = 1, .top_k = 2, .seed = 4}, logits_of({0.1, 0.4, 0.2, 0.3}));
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen.at(1), 4.0 / 7, 0.018);
  EXPECT_NEAR(seen.at(3), 3.0 / 7, 0.018);
  EXPECT_EQ(frequencies({.temperature = 1, .top_k = 9, .seed = 4}, logits_of({0.1, 0.4, 0.5}), 1000).size(), 3u);
}

TEST(SamplerTest, TopPLeavesTheFewestThatReachIt) {
  const Tensor logits = logits_of({0.1, 0.4, 0.2, 0.3});
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.35, .seed = 5}, logits, 500).size(), 1u);  // 0.4
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.65, .seed = 5}, logits, 500).size(), 2u);  // 0.4 + 0.3
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.85, .seed = 5}, logits, 500).size(), 3u);  // + 0.2
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 1e-9, .seed = 5}, logits, 500).size(), 1u);  // at least one
  // Of the two most likely, 0.4 and 0.3, a share of 0.5 is reached by the first alone (0.57 of what top_k left).
  EXPECT_EQ(frequencies({.temperature = 1, .top_k = 2, .top_p = 0.5, .seed = 5}, logits, 500).size(), 1u);
}

TEST(SamplerTest, OfEquallyLikelyTokensTheLowestIdsAreKept) {
  const Tensor equal = Tensor::from(std::vector<float>(40, 1));
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 1, .top_k = 10}, SamplingOptions{.temperature = 1, .top_p = 0.24}}) {
    const auto seen = frequencies(options, equal, 400);  // each of the ten is missed once in 10^18 times
    EXPECT_EQ(seen.size(), 10u);
    EXPECT_EQ(seen.rbegin()->first, 9);
  }
}

// Two likely tokens, 100 tokens with a total of 0.15, and 100 that are too unlikely to be sorted. 0.05 / 0.0015 of the former
// are needed.
TEST(SamplerTest, TopPKeepsManyUnlikelyTokensWhereTheyAreNeeded) {
  std::vector<double> probabilities = {0.6, 0.25};
  probabilities.resize(102, 0.0015);
  probabilities.resize(202, 1e-9);
  const auto seen = frequencies({.temperature = 1, .top_p = 0.9, .seed = 8}, logits_of(probabilities));
  EXPECT_NEAR(seen.at(0), 0.6 / 0.901, 0.018);
  EXPECT_EQ(seen.size(), 2u + 34u);  // each comes 33 times on average
  EXPECT_EQ(seen.rbegin()->first, 35);
}

TEST(SamplerTest, TheSameSeedChoosesTheSame) {
  const Tensor logits = logits_of({0.25, 0.25, 0.25, 0.25});
  const auto choices = [&](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<int32_t> result;
    for (int i = 0; i < 40; ++i) result.push_back(sampler.choose(logits));
    return result;
  };
  EXPECT_EQ(choices(7), choices(7));
  EXPECT_NE(choices(7), choices(8));
}

TEST(SamplerTest, DamagedLogitsAreRefusedAndExcludedOnesNeverChosen) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature});
    error_message(ExitCode::numerical, [&] { sampler.choose(Tensor::from(std::vector<float>{5, nan, 2})); });
    error_message(ExitCode::numerical, [&] { sampler.choose(Tensor::from(std::vector<float>{-infinity, -infinity})); });
    error_message(ExitCode::numerical, [&] { sampler.choose(Tensor::from(std::vector<float>{0, infinity})); });
  }
  const auto seen = frequencies({.temperature = 1, .seed = 2}, Tensor::from(std::vector<float>{0, -infinity, 0}), 2000);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen.at(0), 0.5, 0.06);
}

// exp is computed of a difference, not of a logit. So large logits neither overflow nor make the others disappear.
TEST(SamplerTest, LargeLogitsKeepTheirProbabilities) {
  const auto seen = frequencies({.temperature = 1, .seed = 6}, Tensor::from(std::vector<float>{1000, 1000, 900}), 4000);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen.at(0), 0.5, 0.04);
}

}  // namespace
}  // namespace echo
