#include "kernels/rope.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::rope;
using kernels::RopeDirection;
using kernels::RopeTable;

constexpr DType kFloats[] = {DType::f64, DType::f32, DType::bf16};

double angle_of(int64_t position, int64_t pair) { return double(position) * std::pow(0.7, double(pair)); }

RopeTable make_table(int64_t positions, int64_t pairs, DType activations) {
  std::vector<double> cosine, sine;
  for (int64_t t = 0; t < positions; ++t) {
    for (int64_t i = 0; i < pairs; ++i) {
      cosine.push_back(std::cos(angle_of(t, i)));
      sine.push_back(std::sin(angle_of(t, i)));
    }
  }
  const DType dtype = accumulator_dtype(activations);
  return {kernels::cast(Tensor::from(cosine, {positions, pairs}), dtype),
          kernels::cast(Tensor::from(sine, {positions, pairs}), dtype)};
}

TEST(RopeTest, PairsTurnByTheirAngle) {
  const int64_t batch = 2, tokens = 5, heads = 3, half = 4, first_position = 7;
  for (const DType dtype : kFloats) {
    const Tensor x = random_tensor({batch, tokens, heads, 2 * half}, dtype, 1);
    Tensor y = Tensor::empty_like(x);
    rope(y, x, make_table(12, half, dtype), first_position, RopeDirection::forward);
    const std::vector<double> p = values_of(x), q = values_of(y);
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t h = 0; h < heads; ++h)
          for (int64_t i = 0; i < half; ++i) {
            const size_t first = size_t(((b * tokens + t) * heads + h) * 2 * half + i), second = first + size_t(half);
            const double a = angle_of(first_position + t, i);
            // f32: three roundings of values of size up to 5; bf16: the result's 8 bits.
            const double tolerance = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 2e-6 : 0.02;
            EXPECT_NEAR(q[first], p[first] * std::cos(a) - p[second] * std::sin(a), tolerance) << dtype;
            EXPECT_NEAR(q[second], p[second] * std::cos(a) + p[first] * std::sin(a), tolerance) << dtype;
          }
  }
}

TEST(RopeTest, BackwardIsTheInverseTurn) {
  for (const DType dtype : kFloats) {
    const Tensor x = random_tensor({2, 6, 2, 8}, dtype, 1);
    const RopeTable table = make_table(6, 4, dtype);
    Tensor y = Tensor::empty_like(x), back = Tensor::empty_like(x);
    rope(y, x, table, 0, RopeDirection::forward);
    rope(back, y, table, 0, RopeDirection::backward);
    EXPECT_LT(largest_difference(back, x), dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 2e-6 : 0.04) << dtype;
  }
}

TEST(RopeTest, ViewsOfAFusedProjectionTurnInPlace) {
  for (const DType dtype : kFloats) {
    const Tensor fused = random_tensor({2, 5, 6, 8}, dtype, 1), before = fused.clone();
    const RopeTable table = make_table(5, 4, dtype);
    Tensor queries = fused.narrow(2, 1, 3), expected = Tensor::empty({2, 5, 3, 8}, dtype);
    rope(expected, queries.contiguous(), table, 0, RopeDirection::forward);
    rope(queries, queries, table, 0, RopeDirection::forward);
    EXPECT_EQ(largest_difference(queries.contiguous(), expected), 0);
    EXPECT_EQ(largest_difference(fused.narrow(2, 0, 1).contiguous(), before.narrow(2, 0, 1).contiguous()), 0);
    EXPECT_EQ(largest_difference(fused.narrow(2, 4, 2).contiguous(), before.narrow(2, 4, 2).contiguous()), 0);
  }
}

TEST(RopeTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  const Tensor x = random_tensor({2, 101, 3, 32}, DType::f32, 1);
  const RopeTable table = make_table(101, 16, DType::f32);
  expect_same_bits_on_any_number_of_threads([&] {
    Tensor result = Tensor::empty_like(x);
    rope(result, x, table, 0, RopeDirection::forward);
    return result.to_vector<float>();
  });
}

TEST(RopeTest, WhatDoesNotFitIsRefused) {
  const RopeTable table = make_table(4, 4, DType::f32);
  const auto turn = [&](const Shape& shape, DType dtype, int64_t first_position, const RopeTable& with) {
    Tensor x = Tensor::zeros(shape, dtype);
    rope(x, x, with, first_position, RopeDirection::forward);
  };
  expect_check_fails("positions 0 to 5, the table has 4", [&] { turn({1, 5, 1, 8}, DType::f32, 0, table); });
  expect_check_fails("positions 3 to 5", [&] { turn({1, 2, 1, 8}, DType::f32, 3, table); });
  expect_check_fails("positions -1", [&] { turn({1, 2, 1, 8}, DType::f32, -1, table); });
  expect_check_fails("even Dh", [&] { turn({1, 2, 1, 7}, DType::f32, 0, table); });
  expect_check_fails("table is f32 (4, 4) for x f32 (1, 2, 1, 6)", [&] { turn({1, 2, 1, 6}, DType::f32, 0, table); });
  expect_check_fails("table is f32 (4, 4) for x f64", [&] { turn({1, 2, 1, 8}, DType::f64, 0, table); });
  expect_check_fails("expected (B, T, H, Dh)", [&] { turn({2, 1, 8}, DType::f32, 0, table); });
  expect_check_fails("the table has 0", [&] { turn({1, 2, 1, 8}, DType::f32, 0, RopeTable()); });
  expect_check_fails("(positions, Dh / 2) twice", [&] {
    turn({1, 2, 1, 8}, DType::f32, 0, {table.cosine, table.sine.narrow(0, 0, 3)});
  });
}

}  // namespace
}  // namespace echo
