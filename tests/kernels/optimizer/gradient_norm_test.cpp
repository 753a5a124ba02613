#include "kernels/optimizer/gradient_norm.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"

namespace echo {
namespace {

TEST(GradientNormTest, MatchesTheNaiveSumOverMixedTensors) {
  const std::vector<Tensor> gradients = {random_tensor({100, 1000}, DType::f32, 1), random_tensor({3}, DType::f64, 2), Tensor(),
                                         random_tensor({70}, DType::bf16, 3), Tensor::zeros({0}, DType::f32)};
  double squares = 0;
  for (const Tensor& gradient : gradients)
    if (gradient.defined())
      for (const double x : values_of(gradient)) squares += x * x;
  EXPECT_NEAR(kernels::gradient_norm(gradients), std::sqrt(squares), 1e-12 * std::sqrt(squares));  // f64, another order of sums
}

TEST(GradientNormTest, ResultHasTheSameBitsOnAnyNumberOfThreads) {
  const std::vector<Tensor> gradients = {random_tensor({300'001}, DType::f32, 1), random_tensor({5}, DType::f32, 2)};
  expect_same_bits_on_any_number_of_threads([&] { return kernels::gradient_norm(gradients); });
}

TEST(GradientNormTest, SquaresThatOverflowSinglePrecisionDoNotOverflowTheNorm) {
  const std::vector<Tensor> gradients = {Tensor::full({4}, 1e30, DType::f32)};
  EXPECT_NEAR(kernels::gradient_norm(gradients), 2e30, 2e23);  // 1e30 itself is rounded to f32
}

TEST(GradientNormTest, ClipCoefficientIsThatOfPyTorch) {
  EXPECT_EQ(kernels::clip_coefficient(0.5, 1), 1);
  EXPECT_EQ(kernels::clip_coefficient(4, 1), 1 / (4 + 1e-6));
  EXPECT_EQ(kernels::clip_coefficient(4, 0), 1);
  EXPECT_TRUE(std::isnan(kernels::clip_coefficient(std::nan(""), 1)));
  EXPECT_TRUE(std::isnan(kernels::clip_coefficient(INFINITY, 1)));
}

}  // namespace
}  // namespace echo
