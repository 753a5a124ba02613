#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::add_rms_norm_forward;
using kernels::rms_norm_backward;
using kernels::rms_norm_forward;

constexpr double kEps = 1e-5;
constexpr DType kFloats[] = {DType::f64, DType::f32, DType::bf16};

// Values of size 1 and up to `width` summands: f64 and f32 keep 1e-12 and 1e-5 of them; bf16 rounds its result to 8 bits.
double tolerance(DType dtype) { return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 0.04; }

struct Result {
  Tensor y, inverse_rms;
};

Result forward(const Tensor& x, const Tensor& weight) {
  Result result{Tensor::empty_like(x), Tensor::empty({x.elements() / x.dim(-1)}, accumulator_dtype(x.dtype()))};
  rms_norm_forward(result.y, result.inverse_rms, x, weight, kEps);
  return result;
}

TEST(RmsNormTest, ForwardMatchesTheFormula) {
  for (const DType dtype : kFloats) {
    for (const DType weight_dtype : kFloats) {
      const Tensor x = random_tensor({2, 5, 13}, dtype, 1, 3.0), weight = random_tensor({13}, weight_dtype, 2);
      const Result result = forward(x, weight);
      const std::vector<double> input = values_of(x), w = values_of(weight), y = values_of(result.y),
                                inverse = values_of(result.inverse_rms);
      for (size_t row = 0; row < 10; ++row) {
        double squares = 0;
        for (size_t i = 0; i < 13; ++i) squares += input[row * 13 + i] * input[row * 13 + i];
        const double expected = 1 / std::sqrt(squares / 13 + kEps);
        EXPECT_NEAR(inverse[row], expected, dtype == DType::f64 ? 1e-14 : 1e-6);
        for (size_t i = 0; i < 13; ++i)
          EXPECT_NEAR(y[row * 13 + i], input[row * 13 + i] * expected * w[i], tolerance(dtype)) << dtype << weight_dtype;
      }
    }
  }
}

TEST(RmsNormTest, FusedSumEqualsAdditionThenNorm) {
  for (const DType dtype : kFloats) {
    const Tensor x = random_tensor({7, 20}, dtype, 1), delta = random_tensor({7, 20}, dtype, 2);
    const Tensor weight = random_tensor({20}, DType::f32, 3);
    Tensor sum = Tensor::empty_like(x), y = Tensor::empty_like(x), inverse = Tensor::empty({7}, accumulator_dtype(dtype));
    add_rms_norm_forward(sum, y, inverse, x, delta, weight, kEps);
    const std::vector<double> a = values_of(x), b = values_of(delta), total = values_of(sum);
    for (size_t i = 0; i < a.size(); ++i)  // one rounding: half a unit of 2^-52, 2^-23 or 2^-7
      EXPECT_NEAR(total[i], a[i] + b[i],
                  std::abs(a[i] + b[i]) * (dtype == DType::f64   ? 0x1p-53
                                           : dtype == DType::f32 ? 0x1p-24
                                                                 : 0x1p-8));
    EXPECT_EQ(largest_difference(y, forward(sum, weight).y), 0);
  }
}

// dx_i = inverse * (g_i - h_i * mean(g h)) + d_sum_i with h = x * inverse, g = dy * weight;  dweight = sum over rows dy * h.
TEST(RmsNormTest, BackwardMatchesTheFormulaAndAccumulates) {
  const int64_t rows = 40, width = 24;  // 40 rows: more than one chunk
  for (const DType dtype : kFloats) {
    const Tensor x = random_tensor({rows, width}, dtype, 1), dy = random_tensor({rows, width}, dtype, 2),
                 d_sum = random_tensor({rows, width}, dtype, 3), weight = random_tensor({width}, DType::f32, 4);
    const Tensor inverse = forward(x, weight).inverse_rms;
    const std::vector<double> p = values_of(x), g = values_of(dy), s = values_of(d_sum), w = values_of(weight);
    std::vector<double> dx(p.size()), dw(width);
    for (int64_t row = 0; row < rows; ++row) {
      const size_t start = size_t(row * width);
      double squares = 0, inner = 0;
      for (size_t i = 0; i < size_t(width); ++i) squares += p[start + i] * p[start + i];
      const double r = 1 / std::sqrt(squares / double(width) + kEps);
      for (size_t i = 0; i < size_t(width); ++i) inner += g[start + i] * w[i] * p[start + i] * r / double(width);
      for (size_t i = 0; i < size_t(width); ++i) {
        dx[start + i] = r * (g[start + i] * w[i] - p[start + i] * r * inner) + s[start + i];
        dw[i] += g[start + i] * p[start + i] * r;
      }
    }
    Tensor result = Tensor::empty_like(x), dweight = Tensor::full({width}, 9, accumulator_dtype(dtype));
    const double exact = dtype == DType::f64 ? 1e-12 : 1e-4;  // f32: 40 rows of terms of size 1; inputs are the rounded ones
    rms_norm_backward(result, dweight, GradientMode::overwrite, dy, d_sum, x, weight, inverse);
    EXPECT_LT(largest_difference(result, Tensor::from(dx, x.shape())), tolerance(dtype)) << dtype;
    EXPECT_LT(largest_difference(dweight, Tensor::from(dw)), exact) << dtype;
    rms_norm_backward(result, dweight, GradientMode::accumulate, dy, d_sum, x, weight, inverse);
    for (double& value : dw) value *= 2;
    EXPECT_LT(largest_difference(dweight, Tensor::from(dw)), 2 * exact) << dtype;
    // Without the weight's gradient and without d_sum, dx is the same minus d_sum.
    Tensor none, alone = Tensor::empty_like(x);
    rms_norm_backward(alone, none, GradientMode::overwrite, dy, Tensor(), x, weight, inverse);
    for (size_t i = 0; i < dx.size(); ++i) dx[i] -= s[i];
    EXPECT_LT(largest_difference(alone, Tensor::from(dx, x.shape())), tolerance(dtype)) << dtype;
  }
}

TEST(RmsNormTest, TheGradientMayTakeThePlaceOfTheOneItComesFrom) {
  const Tensor x = random_tensor({40, 24}, DType::f32, 1), dy = random_tensor({40, 24}, DType::f32, 2),
               weight = random_tensor({24}, DType::f32, 3), inverse = forward(x, weight).inverse_rms;
  Tensor dx = Tensor::empty_like(x), in_place = dy.clone();
  Tensor dweight = Tensor::empty_like(weight), dweight_in_place = Tensor::empty_like(weight);
  rms_norm_backward(dx, dweight, GradientMode::overwrite, dy, Tensor(), x, weight, inverse);
  rms_norm_backward(in_place, dweight_in_place, GradientMode::overwrite, in_place, Tensor(), x, weight, inverse);
  EXPECT_EQ(largest_difference(in_place, dx), 0);
  EXPECT_EQ(largest_difference(dweight_in_place, dweight), 0);
}

TEST(RmsNormTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  const Tensor x = random_tensor({701, 64}, DType::f32, 1), dy = random_tensor({701, 64}, DType::f32, 2),
               weight = random_tensor({64}, DType::f32, 3);
  expect_same_bits_on_any_number_of_threads([&] {
    const Result result = forward(x, weight);
    Tensor dx = Tensor::empty_like(x), dweight = Tensor::empty_like(weight);
    rms_norm_backward(dx, dweight, GradientMode::overwrite, dy, Tensor(), x, weight, result.inverse_rms);
    return std::vector{result.y.to_vector<float>(), dx.to_vector<float>(), dweight.to_vector<float>()};
  });
}

TEST(RmsNormTest, RowsOfZerosAndNoRowsAreFine) {
  const Tensor weight = Tensor::full({4}, 1, DType::f32);
  EXPECT_EQ(largest_magnitude(forward(Tensor::zeros({2, 4}, DType::f32), weight).y), 0);  // eps keeps it finite
  EXPECT_EQ(forward(Tensor::zeros({0, 4}, DType::f32), weight).y.elements(), 0);
}

TEST(RmsNormTest, WhatDoesNotFitIsRefused) {
  Tensor x = Tensor::zeros({3, 4}, DType::f32), y = Tensor::empty_like(x), inverse = Tensor::empty({3}, DType::f32), none;
  const Tensor weight = Tensor::zeros({4}, DType::f32);
  expect_check_fails("weight is (5), expected (4)",
                     [&] { rms_norm_forward(y, inverse, x, Tensor::zeros({5}, DType::f32), kEps); });
  expect_check_fails("x is f32 (4, 3)", [&] { rms_norm_forward(y, inverse, x.transpose(0, 1), weight, kEps); });
  expect_check_fails("x is i32", [&] { rms_norm_forward(y, inverse, Tensor::zeros({3, 4}, DType::i32), weight, kEps); });
  expect_check_fails("inverse_rms is f32 (2)", [&] {
    Tensor wrong = inverse.narrow(0, 0, 2);
    rms_norm_forward(y, wrong, x, weight, kEps);
  });
  expect_check_fails("y is bf16", [&] {
    Tensor wrong = Tensor::empty({3, 4}, DType::bf16);
    rms_norm_forward(wrong, inverse, x, weight, kEps);
  });
  expect_check_fails("delta is f32 (1, 4)", [&] {
    add_rms_norm_forward(y, y, inverse, x, Tensor::zeros({1, 4}, DType::f32), weight, kEps);
  });
  expect_check_fails("dweight is f64", [&] {
    Tensor wrong = Tensor::empty({4}, DType::f64);
    rms_norm_backward(y, wrong, GradientMode::overwrite, x, none, x, weight, inverse);
  });
}

}  // namespace
}  // namespace echo
