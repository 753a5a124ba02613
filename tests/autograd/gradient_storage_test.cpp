// Gradients that accumulate in memory that the caller provides.
#include <gtest/gtest.h>

#include "autograd/ops.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Values = std::vector<float>;

Variable leaf(const Values& values) { return Variable(Tensor::from(values), /*requires_gradient=*/true); }

TEST(GradientStorageTest, BackwardPassesAddToItAndClearingFillsItWithZeros) {
  Tensor bucket = Tensor::full({5}, 7, DType::f32);
  Variable a = leaf({1, 2}), b = leaf({3, 4});
  a.set_gradient_storage(bucket.narrow(0, 1, 2));
  b.set_gradient_storage(bucket.narrow(0, 3, 2));
  EXPECT_EQ(bucket.to_vector<float>(), (Values{7, 0, 0, 0, 0}));
  sum(multiply(a, b)).backward();
  EXPECT_EQ(bucket.to_vector<float>(), (Values{7, 3, 4, 1, 2}));
  sum(square(a)).backward();
  EXPECT_EQ(bucket.to_vector<float>(), (Values{7, 5, 8, 1, 2}));
  a.clear_gradient();
  EXPECT_EQ(bucket.to_vector<float>(), (Values{7, 0, 0, 1, 2}));
  sum(multiply(a, b)).backward();
  EXPECT_EQ(bucket.to_vector<float>(), (Values{7, 3, 4, 2, 4}));
  EXPECT_EQ(a.gradient().raw_data(), bucket.narrow(0, 1, 2).raw_data());
}

TEST(GradientStorageTest, OperationsThatWriteGradientsThemselvesWriteThere) {
  const Tensor x = random_tensor({6, 3}, DType::f32, 1);
  Variable weight(random_tensor({4, 3}, DType::f32, 2), true), same(weight.data(), true);
  Tensor bucket = Tensor::empty({20}, DType::f32);
  weight.set_gradient_storage(bucket.narrow(0, 5, 12).reshape({4, 3}));
  sum(square(linear(Variable(x), weight))).backward();
  sum(square(linear(Variable(x), same))).backward();
  EXPECT_EQ(bucket.narrow(0, 5, 12).to_vector<float>(), same.gradient().to_vector<float>());
}

TEST(GradientStorageTest, AnUndefinedTensorTakesItAway) {
  Tensor bucket = Tensor::empty({2}, DType::f32);
  Variable w = leaf({1, 2});
  sum(w).backward();
  w.set_gradient_storage(bucket);
  EXPECT_EQ(w.gradient().to_vector<float>(), (Values{0, 0}));  // the earlier sum is dropped
  w.set_gradient_storage({});
  EXPECT_FALSE(w.gradient().defined());
  sum(square(w)).backward();
  EXPECT_EQ(w.gradient().to_vector<float>(), (Values{2, 4}));
  EXPECT_EQ(bucket.to_vector<float>(), (Values{0, 0}));
  w.clear_gradient();
  EXPECT_FALSE(w.gradient().defined());
}

TEST(GradientStorageTest, WhatDoesNotFitIsRefusedAndChangesNothing) {
  Variable w(Tensor::full({2, 3}, 1, DType::bf16), true);
  const auto refused = [](Variable variable, const Tensor& storage) {
    return error_message(ExitCode::internal, [&] { variable.set_gradient_storage(storage); });
  };
  const auto expect_misfit = [&](const Tensor& storage) {
    const std::string text = refused(w, storage);
    expect_contains(text, "expected contiguous f32 (2, 3) on cpu");
  };
  const Tensor full = Tensor::full({2, 6}, 9, DType::f32);
  expect_misfit(Tensor::empty({6}, DType::f32));
  expect_misfit(Tensor::empty({2, 3}, DType::bf16));  // gradients of bf16 leaves are accumulated in f32
  expect_misfit(full.narrow(1, 0, 3));
  EXPECT_EQ(full.to_vector<float>(), Values(12, 9));
  EXPECT_FALSE(w.gradient().defined());
  const std::string only = "only for leaves that require a gradient";
  EXPECT_NE(refused(Variable(Tensor::empty({2}, DType::f32)), Tensor::empty({2}, DType::f32)).find(only), std::string::npos);
  EXPECT_NE(refused(square(leaf({1, 2})), Tensor::empty({2}, DType::f32)).find(only), std::string::npos);
}

}  // namespace
}  // namespace echo
