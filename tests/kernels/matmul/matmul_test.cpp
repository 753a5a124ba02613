#include "kernels/matmul/matmul.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::matmul;
using kernels::Transpose;

struct Case {
  int64_t m, n, k;
};

constexpr Case kCases[] = {{1, 1, 1}, {3, 5, 7}, {1, 40, 64}, {40, 1, 64}, {17, 9, 1}, {65, 70, 33}, {64, 96, 128}};

// A matrix of this shape inside a larger one: the stride of rows is `extra` elements larger than their length.
Tensor random_matrix(int64_t rows, int64_t columns, DType dtype, uint64_t seed, int64_t extra) {
  return random_tensor({rows, columns + extra}, dtype, seed).narrow(1, 0, columns);
}

double at(const Tensor& matrix, Transpose transpose, int64_t row, int64_t column) {
  if (transpose == Transpose::yes) std::swap(row, column);
  return matrix.narrow(0, row, 1).narrow(1, column, 1).item();
}

std::vector<double> dense(const Tensor& matrix, Transpose transpose) {
  const Tensor view = transpose == Transpose::yes ? matrix.transpose(0, 1) : matrix;
  return values_of(view.contiguous());
}

// Compares with sum_k a[i,k] * b[k,j] in f64. The bound: each of k products and sums is rounded to a relative 2^-24 (f32) or
// 2^-53 (f64), possibly all in the same direction. A bf16 result is rounded once more, by 2^-8 of its size.
void expect_product(const Case& size, DType dtype, DType result_dtype, Transpose ta, Transpose tb, GradientMode mode,
                    int64_t extra) {
  const bool swap_a = ta == Transpose::yes, swap_b = tb == Transpose::yes;
  const Tensor a = random_matrix(swap_a ? size.k : size.m, swap_a ? size.m : size.k, dtype, 1, extra);
  const Tensor b = random_matrix(swap_b ? size.n : size.k, swap_b ? size.k : size.n, dtype, 2, 2 * extra);
  const Tensor memory = random_tensor({size.m, size.n + extra}, result_dtype, 3), before = memory.clone();
  Tensor c = memory.narrow(1, 0, size.n);
  matmul(c, a, ta, b, tb, mode);

  const std::vector<double> x = dense(a, ta), y = dense(b, tb), start = values_of(before), result = values_of(memory);
  const double unit = dtype == DType::f64 ? 0x1p-53 : 0x1p-24, rounding = result_dtype == DType::bf16 ? 0x1p-8 : unit;
  for (int64_t i = 0; i < size.m; ++i) {
    for (int64_t j = 0; j < size.n + extra; ++j) {
      const size_t place = size_t(i * (size.n + extra) + j);
      if (j >= size.n) {
        ASSERT_EQ(result[place], start[place]) << "beside the matrix";
        continue;
      }
      double sum = mode == GradientMode::accumulate ? start[place] : 0, magnitude = std::abs(sum);
      for (int64_t p = 0; p < size.k; ++p) {
        const double term = x[size_t(i * size.k + p)] * y[size_t(p * size.n + j)];
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(result[place], sum, double(2 * size.k + 2) * unit * magnitude + rounding * std::abs(sum))
          << dtype << " -> " << result_dtype << " m " << size.m << " n " << size.n << " k " << size.k << " transposed "
          << swap_a << swap_b << " accumulate " << (mode == GradientMode::accumulate) << " at " << i << ", " << j;
    }
  }
}

TEST(MatmulTest, EveryFormMatchesTheNaiveSum) {
  const ThreadCount threads(1);  // hundreds of products that are too small for two threads
  const std::pair<DType, DType> dtypes[] = {
      {DType::f64, DType::f64}, {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};
  for (const auto& [dtype, result] : dtypes)
    for (const Case& size : kCases)
      for (const Transpose ta : {Transpose::no, Transpose::yes})
        for (const Transpose tb : {Transpose::no, Transpose::yes})
          for (const GradientMode mode : {GradientMode::overwrite, GradientMode::accumulate})
            expect_product(size, dtype, result, ta, tb, mode, /*extra=*/size.m % 2 == 0 ? 0 : 3);
}

TEST(MatmulTest, OverwriteDoesNotReadWhatWasThere) {
  for (const auto& [dtype, result] :
       {std::pair{DType::f64, DType::f64}, {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}}) {
    const Tensor a = random_tensor({20, 30}, dtype, 1), b = random_tensor({30, 10}, dtype, 2);
    Tensor c = Tensor::full({20, 10}, std::nan(""), result);
    matmul(c, a, Transpose::no, b, Transpose::no);
    EXPECT_FALSE(std::isnan(largest_magnitude(c))) << dtype << result;
  }
}

TEST(MatmulTest, ASingleRowMayComeFromATransposedColumn) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor column = random_tensor({64, 1}, dtype, 1), b = random_tensor({64, 5}, dtype, 2);
    Tensor of_view = Tensor::empty({1, 5}, dtype), of_column = Tensor::empty({1, 5}, dtype);
    matmul(of_view, column.transpose(0, 1), Transpose::no, b, Transpose::no);
    matmul(of_column, column, Transpose::yes, b, Transpose::no);
    // The same product by two routes, each within 64 roundings of a sum of size 10 (bf16: rounded to 8 bits).
    EXPECT_LT(largest_difference(of_view, of_column), dtype == DType::bf16 ? 0.13 : 1e-4) << dtype;
    EXPECT_NEAR(at(of_view, Transpose::no, 0, 4), at(of_column, Transpose::no, 0, 4), 0.13);
  }
}

TEST(MatmulTest, EmptyDimensionsGiveEmptyOrZeroResults) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    Tensor none = Tensor::empty({0, 4}, dtype), c = Tensor::full({3, 4}, 7, dtype);
    matmul(none, Tensor::empty({0, 5}, dtype), Transpose::no, Tensor::zeros({5, 4}, dtype), Transpose::no);
    const Tensor a = Tensor::empty({3, 0}, dtype), b = Tensor::empty({0, 4}, dtype);
    matmul(c, a, Transpose::no, b, Transpose::no, GradientMode::accumulate);
    EXPECT_EQ(largest_magnitude(c), 7);
    matmul(c, a, Transpose::no, b, Transpose::no);
    EXPECT_EQ(largest_magnitude(c), 0);
    Tensor inside = Tensor::full({3, 6}, 7, dtype).narrow(1, 1, 4);
    matmul(inside, a, Transpose::no, b, Transpose::no);
    EXPECT_EQ(largest_magnitude(inside.contiguous()), 0);
  }
}

TEST(MatmulTest, F64HasTheSameBitsOnAnyNumberOfThreads) {
  const Tensor a = random_tensor({70, 90}, DType::f64, 1), b = random_tensor({90, 80}, DType::f64, 2);
  expect_same_bits_on_any_number_of_threads([&] {
    Tensor c = Tensor::empty({70, 80}, DType::f64);
    matmul(c, a, Transpose::no, b, Transpose::no);
    return c.to_vector<double>();
  });
}

TEST(MatmulTest, WhatDoesNotFitIsRefusedWithShapes) {
  Tensor c = Tensor::empty({2, 4}, DType::f32);
  const auto message = [&](const Tensor& a, Transpose ta, const Tensor& b, Transpose tb) {
    return error_message(ExitCode::internal, [&] { matmul(c, a, ta, b, tb); });
  };
  const Tensor a = Tensor::zeros({2, 3}, DType::f32), b = Tensor::zeros({3, 4}, DType::f32);
  const auto no = Transpose::no, yes = Transpose::yes;
  expect_contains(message(a, no, Tensor::zeros({5, 4}, DType::f32), no), "inner dimensions differ: a (2, 3) x b (5, 4)");
  expect_contains(message(a, yes, b, no), "inner dimensions differ: transposed a (2, 3) x b (3, 4)");
  expect_contains(message(a, no, Tensor::zeros({3, 5}, DType::f32), no), "c is (2, 4), expected (2, 5)");
  expect_contains(message(a, no, kernels::cast(b, DType::f64), no), "dtypes of a and b: f32, f64");
  expect_contains(message(kernels::cast(a, DType::f64), no, kernels::cast(b, DType::f64), no), "c is f32 for operands of f64");
  expect_contains(message(Tensor::zeros({2, 3}, DType::i32), no, Tensor::zeros({3, 4}, DType::i32), no),
                  "dtypes of a and b: i32");
  expect_contains(message(a.reshape({2, 3, 1}), no, b, no), "a is f32 (2, 3, 1), expected rank 2");
  expect_contains(message(a, no, Tensor(), no), "b is undefined tensor");
  expect_contains(message(Tensor::zeros({3, 2}, DType::f32).transpose(0, 1), no, b, no), "elements of a row must be adjacent");
}

}  // namespace
}  // namespace echo
