#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"

namespace echo {

// A differentiable function of f64 variables. Its value may have any shape.
using DifferentiableFunction = std::function<Variable(const std::vector<Variable>& inputs)>;

// At most this many entries of each input are changed, evenly spread. If there are fewer entries, all of them.
inline constexpr int64_t kAllEntries = INT64_MAX;

// Compares the gradients that backward() gives for `function` with central differences of `reference`, entry by entry:
//   |gradient - difference| <= tolerance * (1 + |difference|)
// A value with several elements is reduced to one number with fixed random weights, so that no two errors cancel. With a step
// of 1e-5, and values and third derivatives of size 1 to 10, rounding contributes 1e-10, and the third derivative the same. A
// tolerance of 1e-7 is far above this noise, and far below any mistake.
inline void expect_gradients_match(const DifferentiableFunction& function, const DifferentiableFunction& reference,
                                   const std::vector<Tensor>& inputs, double tolerance, int64_t entries = kAllEntries) {
  const ThreadCount threads(1);  // thousands of tiny evaluations
  const auto weighted = [](const Variable& value) {
    return sum(multiply(value, Variable(random_tensor(value.shape(), DType::f64, /*seed=*/99))));
  };
  std::vector<Variable> leaves;
  for (const Tensor& input : inputs) leaves.emplace_back(input.clone(), /*requires_gradient=*/true);
  weighted(function(leaves)).backward();

  const NoGrad no_grad;
  std::vector<Variable> moved;
  for (const Tensor& input : inputs) moved.emplace_back(input.clone());
  const auto value = [&] { return weighted(reference(moved)).data().item(); };
  constexpr double kStep = 1e-5;
  for (size_t k = 0; k < inputs.size(); ++k) {
    ASSERT_TRUE(leaves[k].gradient().defined()) << "input " << k << " got no gradient";
    ASSERT_EQ(leaves[k].gradient().shape(), inputs[k].shape());
    const std::vector<double> gradient = values_of(leaves[k].gradient());
    double* const data = moved[k].data().data<double>();
    const int64_t count = inputs[k].elements(), stride = std::max<int64_t>(1, count / entries);
    for (int64_t i = 0; i < count; i += stride) {
      const double start = data[i];
      data[i] = start + kStep;
      const double above = value();
      data[i] = start - kStep;
      const double difference = (above - value()) / (2 * kStep);
      data[i] = start;
      ASSERT_NEAR(gradient[size_t(i)], difference, tolerance * (1 + std::abs(difference))) << "input " << k << ", entry " << i;
    }
  }
}

inline void expect_gradients_match(const DifferentiableFunction& function, const std::vector<Tensor>& inputs, double tolerance,
                                   int64_t entries = kAllEntries) {
  expect_gradients_match(function, function, inputs, tolerance, entries);
}

}  // namespace echo
