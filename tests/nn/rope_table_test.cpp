#include "nn/rope_table.h"

#include <cmath>
#include <numbers>

#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

LlamaConfig config_with(int64_t head_dim, double theta) {
  LlamaConfig config;
  config.head_dim = head_dim;
  config.rope_theta = theta;
  return config;
}

// The frequency of pair i, from the angle of position 1.
std::vector<double> frequencies(const LlamaConfig& config) {
  const kernels::RopeTable table = make_rope_table(config, 2, DType::f64);
  std::vector<double> result;
  for (int64_t i = 0; i < config.head_dim / 2; ++i)
    result.push_back(
        std::atan2(table.sine.data<double>()[config.head_dim / 2 + i], table.cosine.data<double>()[config.head_dim / 2 + i]));
  return result;
}

TEST(RopeTableTest, AnglesArePositionTimesThetaToAFallingPower) {
  const LlamaConfig config = config_with(8, 10000.0);
  const kernels::RopeTable table = make_rope_table(config, 600, DType::f64);
  EXPECT_EQ(table.positions(), 600);
  const double expected[] = {1, 0.1, 0.01, 0.001};  // 10000^(-2i/8)
  for (const int64_t t : {int64_t{0}, int64_t{1}, int64_t{599}})
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(table.cosine.data<double>()[t * 4 + i], std::cos(double(t) * expected[i]), 1e-12);
      EXPECT_NEAR(table.sine.data<double>()[t * 4 + i], std::sin(double(t) * expected[i]), 1e-12);
    }
}

// Angles at position 100,000 would have an error of 0.004 if computed in f32.
TEST(RopeTableTest, AnF32TableIsTheF64OneRoundedOnce) {
  const LlamaConfig config = config_with(64, 500000.0);
  const int64_t positions = 100'000;
  const kernels::RopeTable wide = make_rope_table(config, positions, DType::f64),
                           narrow = make_rope_table(config, positions, DType::f32);
  int64_t differing = 0;
  for (int64_t i = 0; i < wide.cosine.elements(); i += 97) {
    differing += narrow.cosine.data<float>()[i] != float(wide.cosine.data<double>()[i]);
    differing += narrow.sine.data<float>()[i] != float(wide.sine.data<double>()[i]);
  }
  EXPECT_EQ(differing, 0);
}

TEST(RopeTableTest, LinearScalingDividesEveryFrequency) {
  LlamaConfig config = config_with(16, 10000.0);
  const std::vector<double> plain = frequencies(config);
  config.rope_scaling.type = RopeType::linear;
  config.rope_scaling.factor = 4;
  const std::vector<double> scaled = frequencies(config);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(scaled[i], plain[i] / 4, 1e-15);
}

// Llama 3.1's settings: short wavelengths are kept, long ones are stretched by a factor of 8, and those between are
// interpolated.
TEST(RopeTableTest, Llama3ScalingKeepsShortWavelengthsAndStretchesLongOnes) {
  LlamaConfig config = config_with(128, 500000.0);
  const std::vector<double> plain = frequencies(config);
  config.rope_scaling = {RopeType::llama3, 8.0, 1.0, 4.0, 8192};
  const std::vector<double> scaled = frequencies(config);
  int kept = 0, stretched = 0, blended = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double wavelength = 2 * std::numbers::pi / plain[i];
    const double ratio = plain[i] / scaled[i];
    if (wavelength < 8192.0 / 4.0) {
      EXPECT_NEAR(ratio, 1, 1e-12);
      ++kept;
    } else if (wavelength > 8192.0 / 1.0) {
      EXPECT_NEAR(ratio, 8, 1e-9);
      ++stretched;
    } else {
      const double smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
      EXPECT_NEAR(scaled[i], (1 - smooth) * plain[i] / 8 + smooth * plain[i], 1e-12 * plain[i]);
      ++blended;
    }
  }
  EXPECT_GT(kept, 10);
  EXPECT_GT(stretched, 10);
  EXPECT_GT(blended, 2);
}

}  // namespace
}  // namespace echo
