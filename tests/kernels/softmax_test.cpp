#include "kernels/softmax.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "kernels/vector_math.h"

namespace echo {
namespace {

template <class T>
void expect_softmax_matches_formula(double tolerance) {
  for (const int64_t columns : {1, 7, 16, 33, 200}) {
    RandomSequence random(uint64_t(columns) + 1);
    std::vector<T> x, dy;
    for (int64_t i = 0; i < 3 * columns; ++i) {
      x.push_back(T(float(4 * random.normal())));
      dy.push_back(T(float(random.normal())));
    }
    const double scale = 0.7;
    Tensor y = Tensor::zeros({3, columns}, dtype_of<T>), dx = Tensor::zeros_like(y);
    kernels::softmax_forward(y, Tensor::from(x, {3, columns}), scale);
    kernels::softmax_backward(dx, Tensor::from(dy, {3, columns}), y, scale);
    const std::vector<T> actual = y.to_vector<T>(), gradient = dx.to_vector<T>();
    for (int64_t r = 0; r < 3; ++r) {
      double sum = 0, dot = 0;
      for (int64_t i = r * columns; i < (r + 1) * columns; ++i) sum += std::exp(scale * double(x[size_t(i)]));
      for (int64_t i = r * columns; i < (r + 1) * columns; ++i) dot += double(actual[size_t(i)]) * double(dy[size_t(i)]);
      for (int64_t i = r * columns; i < (r + 1) * columns; ++i) {
        const size_t j = size_t(i);
        ASSERT_NEAR(double(actual[j]), std::exp(scale * double(x[j])) / sum, tolerance) << dtype_of<T> << ' ' << columns;
        ASSERT_NEAR(double(gradient[j]), scale * double(actual[j]) * (double(dy[j]) - dot), tolerance)
            << dtype_of<T> << ' ' << columns;
      }
    }
  }
}

TEST(SoftmaxTest, ForwardAndBackwardMatchTheFormula) {
  expect_softmax_matches_formula<double>(1e-14);
  expect_softmax_matches_formula<float>(2e-6);          // exponents up to 15, rounded to 2^-24 of themselves
  expect_softmax_matches_formula<bfloat16>(1.0 / 200);  // storing a value near 1 costs 1 / 512
}

TEST(SoftmaxTest, GradientMatchesFiniteDifferences) {
  RandomSequence random(4);
  std::vector<double> x, weight;
  for (int i = 0; i < 2 * 11; ++i) {
    x.push_back(random.normal());
    weight.push_back(random.normal());
  }
  const auto objective = [&](const std::vector<double>& at) {
    Tensor y = Tensor::zeros({2, 11}, DType::f64);
    kernels::softmax_forward(y, Tensor::from(at, {2, 11}), 1.3);
    double sum = 0;
    for (size_t i = 0; i < weight.size(); ++i) sum += weight[i] * y.data<double>()[i];
    return sum;
  };
  Tensor y = Tensor::zeros({2, 11}, DType::f64), dx = Tensor::zeros_like(y);
  kernels::softmax_forward(y, Tensor::from(x, {2, 11}), 1.3);
  kernels::softmax_backward(dx, Tensor::from(weight, {2, 11}), y, 1.3);
  for (size_t i = 0; i < x.size(); ++i) {
    std::vector<double> above = x, below = x;
    above[i] += 1e-5;
    below[i] -= 1e-5;
    // Central differences: truncation about 1e-10, rounding 1e-16 / 1e-5.
    ASSERT_NEAR(dx.data<double>()[i], (objective(above) - objective(below)) / 2e-5, 1e-9);
  }
}

TEST(SoftmaxTest, ExtremeInputsGiveFiniteRows) {
  Tensor x = Tensor::from(std::vector<float>{1e30f, -1e30f, 0, 3e38f, 3e38f, 3e38f}, {2, 3}), y = Tensor::zeros_like(x);
  kernels::softmax_forward(y, x, 0.5);
  const std::vector<float> expected = {1, 0, 0, 1 / 3.0f, 1 / 3.0f, 1 / 3.0f};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(y.data<float>()[i], expected[i], 1e-6);
}

template <class T>
double largest_relative_error_of_exp2(double lowest) {
  constexpr int N = kernels::kLanes<T>;
  double worst = 0;
  T values[N], results[N];
  for (int i = 0; i < 40'000; ++i) {
    for (int lane = 0; lane < N; ++lane) values[lane] = T(lowest * (i * N + lane) / (40'000 * N));
    kernels::store<T>(results, kernels::exp2_of_nonpositive<T>(kernels::load(values)));
    for (int lane = 0; lane < N; ++lane) {
      const long double exact = std::exp2((long double)(values[lane]));
      worst = std::max(worst, double(std::abs((long double)(results[lane]) - exact) / exact));
    }
  }
  return worst;
}

TEST(VectorMathTest, Exp2IsAccurateToTwoUnitsInTheLastPlaceAndExactAtItsEnds) {
  EXPECT_LE(largest_relative_error_of_exp2<float>(-125), 2 * 0x1p-23);
  EXPECT_LE(largest_relative_error_of_exp2<double>(-1000), 2 * 0x1p-52);
  EXPECT_EQ(kernels::exp2_of_nonpositive<float>(kernels::broadcast(0.0f))[0], 1.0f);
  for (const float x : {-127.0f, -200.0f, -1e10f, -3e38f})
    EXPECT_EQ(kernels::exp2_of_nonpositive<float>(kernels::broadcast(x))[0], 0.0f);
}

TEST(VectorMathTest, Log2MatchesTheLibrary) {
  for (double x = 1e-3; x < 1e6; x *= 1.01) {
    EXPECT_NEAR(kernels::log2_of_positive<double>(kernels::broadcast(x))[0], std::log2(x),
                4e-15 * std::max(1.0, std::abs(std::log2(x))));
    EXPECT_NEAR(kernels::log2_of_positive<float>(kernels::broadcast(float(x)))[0], std::log2(double(float(x))),
                2e-7 * std::max(1.0, std::abs(std::log2(x))));
  }
}

TEST(VectorMathTest, TransposeExchangesRowsAndColumns) {
  constexpr int N = kernels::kLanes<float>;
  std::vector<float> source(N * (N + 3)), target(N * (N + 1));
  for (size_t i = 0; i < source.size(); ++i) source[i] = float(i);
  kernels::transpose_square<float>(target.data(), N + 1, source.data(), N + 3);
  for (size_t i = 0; i < N; ++i)
    for (size_t j = 0; j < N; ++j) EXPECT_EQ(target[j * (N + 1) + i], source[i * (N + 3) + j]);
}

}  // namespace
}  // namespace echo
