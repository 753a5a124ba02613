#include "kernels/reduce.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"

namespace echo {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

TEST(ReduceTest, SumsMatchTheNaiveLoop) {
  for (const DType dtype : kFloats) {
    for (const int64_t count : {0, 1, 100'003}) {
      const Tensor x = random_tensor({count}, dtype, 1);
      double sum = 0;
      for (const double value : values_of(x)) sum += value;
      EXPECT_NEAR(kernels::sum(x), sum, 1e-7);  // 1e5 roundings of a sum of size 1e5 in f64, were they all to one side
    }
  }
}

TEST(ReduceTest, RowsSumToColumnsAndAccumulate) {
  for (const int64_t rows : {1, 70, 9000}) {
    const Tensor x = random_tensor({rows, 11}, DType::f64, 1);
    std::vector<double> expected(11);
    for (int64_t i = 0; i < x.elements(); ++i) expected[size_t(i % 11)] += x.data<double>()[i];
    Tensor y = Tensor::full({11}, 5, DType::f64);
    kernels::sum_rows(y, x);
    EXPECT_LT(largest_difference(y, Tensor::from(expected)), 1e-11);
    kernels::sum_rows(y, x, GradientMode::accumulate);
    for (double& value : expected) value *= 2;
    EXPECT_LT(largest_difference(y, Tensor::from(expected)), 1e-11);
    Tensor f32 = Tensor::empty({11}, DType::f32), reference = Tensor::empty({11}, DType::f64);
    const Tensor bf16 = kernels::cast(x, DType::bf16);
    kernels::sum_rows(f32, bf16);
    kernels::sum_rows(reference, kernels::cast(bf16, DType::f64));
    EXPECT_LT(largest_difference(f32, reference), 1e-6 * double(rows));  // f32 sums of terms of size 1
  }
}

}  // namespace
}  // namespace echo
