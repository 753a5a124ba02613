// Compares every operation of autograd/ops.h with finite differences.
#include <gtest/gtest.h>

#include "tests/autograd/rope_angles.h"
#include "tests/gradient_check.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Inputs = std::vector<Variable>;

constexpr double kTolerance = 1e-7;  // see gradient_check.h

Tensor random_input(const Shape& shape, uint64_t seed = 1) { return random_tensor(shape, DType::f64, seed); }

TEST(OpsGradientTest, ElementwiseOperations) {
  const Tensor a = random_input({3, 4}, 1), b = random_input({3, 4}, 2);
  expect_gradients_match([](const Inputs& x) { return add(x[0], x[1]); }, {a, b}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return subtract(x[0], x[1]); }, {a, b}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return multiply(x[0], x[1]); }, {a, b}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return scale(x[0], -2.5); }, {a}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return square(x[0]); }, {a}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return tanh(x[0]); }, {a}, kTolerance);
}

TEST(OpsGradientTest, AVariableUsedSeveralTimesGetsTheSum) {
  const Tensor a = random_input({5});
  expect_gradients_match([](const Inputs& x) { return add(x[0], x[0]); }, {a}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return subtract(multiply(x[0], x[0]), tanh(x[0])); }, {a}, kTolerance);
  expect_gradients_match(
      [](const Inputs& x) {
        const Variable y = tanh(x[0]);
        return add(multiply(y, y), add(square(y), y));
      },
      {a}, kTolerance);
}

TEST(OpsGradientTest, Reductions) {
  expect_gradients_match([](const Inputs& x) { return square(sum(x[0])); }, {random_input({3, 4})}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return square(mean(x[0])); }, {random_input({3, 4})}, kTolerance);
}

TEST(OpsGradientTest, Products) {
  expect_gradients_match([](const Inputs& x) { return matmul(x[0], x[1]); }, {random_input({3, 4}, 1), random_input({4, 5}, 2)},
                         kTolerance);
  expect_gradients_match([](const Inputs& x) { return linear(x[0], x[1]); },
                         {random_input({2, 3, 4}, 1), random_input({5, 4}, 2)}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return linear(x[0], tanh(x[1])); },  // a weight that is computed
                         {random_input({3, 4}, 1), random_input({5, 4}, 2)}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return linear(linear(x[0], x[1]), x[1]); },  // one weight twice
                         {random_input({3, 4}, 1), random_input({4, 4}, 2)}, kTolerance);
}

TEST(OpsGradientTest, Bias) {
  expect_gradients_match([](const Inputs& x) { return add_bias(x[0], x[1]); },
                         {random_input({2, 3, 4}, 1), random_input({4}, 2)}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return add_bias(add_bias(x[0], tanh(x[1])), tanh(x[1])); },
                         {random_input({3, 4}, 1), random_input({4}, 2)}, kTolerance);
}

TEST(OpsGradientTest, Shapes) {
  expect_gradients_match([](const Inputs& x) { return square(reshape(x[0], {4, 3})); }, {random_input({2, 6})}, kTolerance);
  for (const int dimension : {0, 1, 2, -1})
    expect_gradients_match([=](const Inputs& x) { return square(narrow(x[0], dimension, 1, 2)); }, {random_input({3, 4, 5})},
                           kTolerance);
  expect_gradients_match(  // pieces that overlap
      [](const Inputs& x) { return multiply(narrow(x[0], 0, 0, 3), narrow(x[0], 0, 1, 3)); }, {random_input({4, 2})},
      kTolerance);
}

// The rounding of a cast is not differentiable: its gradient is that of the identity, in the input's dtype.
TEST(OpsGradientTest, CastPassesTheGradientThroughInTheInputsDtype) {
  for (const DType from : {DType::f32, DType::bf16, DType::f64}) {
    for (const DType to : {DType::f32, DType::bf16, DType::f64}) {
      const Variable x(Tensor::full({3}, 1.5, from), true);
      Variable y = cast(scale(x, 1.0), to);
      EXPECT_EQ(y.dtype(), to);
      y.backward(Tensor::full({3}, 0.25, to));
      EXPECT_EQ(x.gradient().dtype(), accumulator_dtype(from));
      EXPECT_EQ(largest_difference(x.gradient(), Tensor::full({3}, 0.25, DType::f64)), 0);
    }
  }
}

TEST(OpsGradientTest, Embedding) {
  const Tensor ids = Tensor::from(std::vector<int32_t>{2, 0, 2, 4});
  expect_gradients_match([&](const Inputs& x) { return square(embedding(x[0], ids, DType::f64)); }, {random_input({5, 3})},
                         kTolerance);
  expect_gradients_match([&](const Inputs& x) { return square(embedding(tanh(x[0]), ids, DType::f64)); },
                         {random_input({5, 3})}, kTolerance);
}

TEST(OpsGradientTest, RmsNorm) {
  expect_gradients_match([](const Inputs& x) { return rms_norm(x[0], x[1], 1e-5); },
                         {random_input({2, 3, 6}, 1), random_input({6}, 2)}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return rms_norm(x[0], tanh(x[1]), 1e-5); },
                         {random_input({4, 6}, 1), random_input({6}, 2)}, kTolerance);
}

TEST(OpsGradientTest, RmsNormOfASumWithEitherOutputUnused) {
  const std::vector<Tensor> inputs = {random_input({3, 6}, 1), random_input({3, 6}, 2), random_input({6}, 3)};
  const auto both = [](const Inputs& x) {
    const NormedSum result = add_rms_norm(x[0], x[1], x[2], 1e-5);
    return add(square(result.sum), multiply(result.normed, result.sum));
  };
  expect_gradients_match(both, inputs, kTolerance);
  expect_gradients_match([](const Inputs& x) { return add_rms_norm(x[0], x[1], x[2], 1e-5).normed; }, inputs, kTolerance);
  expect_gradients_match(
      [](const Inputs& x) { return square(add_rms_norm(x[0], x[1], Variable(random_input({6})), 1e-5).sum); },
      {inputs[0], inputs[1]}, kTolerance);
}

TEST(OpsGradientTest, Swiglu) {
  expect_gradients_match([](const Inputs& x) { return swiglu(x[0]); }, {random_input({2, 3, 8})}, kTolerance);
}

TEST(OpsGradientTest, Rope) {
  const kernels::RopeTable table = rope_table_of_steps(0.3, 5, 2);
  expect_gradients_match([&](const Inputs& x) { return square(rope(x[0], table)); }, {random_input({2, 4, 3, 4})}, kTolerance);
}

TEST(OpsGradientTest, Softmax) {
  expect_gradients_match([](const Inputs& x) { return softmax(x[0]); }, {random_input({3, 5})}, kTolerance);
  expect_gradients_match([](const Inputs& x) { return square(softmax(x[0], 0.3)); }, {random_input({2, 2, 4})}, kTolerance);
}

TEST(OpsGradientTest, CrossEntropy) {
  const Tensor labels = Tensor::from(std::vector<int32_t>{1, -1, 4, 0});
  expect_gradients_match([&](const Inputs& x) { return square(cross_entropy(x[0], labels)); }, {random_input({4, 5})},
                         kTolerance);
}

TEST(OpsGradientTest, HiddenErrorBothNormalizations) {
  const Tensor teacher = random_input({4, 6}, 2), labels = Tensor::from(std::vector<int32_t>{1, -1, 0, 3});
  for (const auto normalization : {kernels::HiddenNormalization::none, kernels::HiddenNormalization::teacher_power}) {
    expect_gradients_match([&](const Inputs& x) { return hidden_error(x[0], teacher, labels, normalization); },
                           {random_input({4, 6})}, kTolerance);
    expect_gradients_match([&](const Inputs& x) { return square(hidden_error(x[0], teacher, Tensor(), normalization)); },
                           {random_input({4, 6})}, kTolerance);
  }
}

TEST(OpsGradientTest, DistillationLossEveryDirection) {
  const int64_t rows = 5, width = 4, vocabulary = 7;
  const Tensor teacher_hidden = random_input({rows, 3}, 3), teacher_head = random_input({vocabulary, 3}, 4);
  const Tensor labels = Tensor::from(std::vector<int32_t>{6, 0, -1, 2, 3});
  const std::vector<Tensor> inputs = {random_input({rows, width}, 1), random_input({vocabulary, width}, 2)};
  for (const auto direction :
       {kernels::KlDirection::student_teacher, kernels::KlDirection::teacher_student, kernels::KlDirection::jensen_shannon}) {
    for (const double temperature : {1.0, 2.5}) {
      kernels::DistillationWeights weights;
      weights.kl = 0.7;
      weights.hard_label = 0.4;
      weights.true_label = 0.3;
      weights.direction = direction;
      weights.temperature = temperature;
      expect_gradients_match(
          [&](const Inputs& x) {
            return scale(distillation_loss(x[0], x[1], teacher_hidden, teacher_head, labels, weights), 0.5);
          },
          inputs, kTolerance);
    }
  }
  kernels::DistillationWeights true_labels{0, 0, 1, kernels::KlDirection::student_teacher, 1};
  expect_gradients_match(
      [&](const Inputs& x) { return distillation_loss(tanh(x[0]), tanh(x[1]), Tensor(), Tensor(), labels, true_labels); },
      inputs, kTolerance);
}

TEST(OpsGradientTest, LossesOfAFrozenInputNeedNoTape) {
  const Tensor labels = Tensor::from(std::vector<int32_t>{1, 2});
  const Variable logits(random_input({2, 4}));
  EXPECT_FALSE(cross_entropy(logits, labels).requires_gradient());
  EXPECT_FALSE(hidden_error(logits, logits.data(), labels, kernels::HiddenNormalization::none).requires_gradient());
  const Variable tracked(logits.data(), true);
  EXPECT_EQ(cross_entropy(logits, labels).data().item(), cross_entropy(tracked, labels).data().item());
}

// bf16 activations with f32 weights, as in training: the gradients agree with f64 within bf16's 8 bits, weights get theirs in
// f32.
TEST(OpsGradientTest, Bf16ActivationsWithF32WeightsStayCloseToF64) {
  const auto gradients = [](DType activations, DType weights_dtype) {
    const Variable x(random_tensor({6, 16}, activations, 1), true), norm(random_tensor({16}, weights_dtype, 2), true),
        gate_up(random_tensor({24, 16}, weights_dtype, 3, 0.3), true),
        down(random_tensor({16, 12}, weights_dtype, 4, 0.3), true);
    const Variable hidden = swiglu(linear(rms_norm(x, norm, 1e-5), gate_up));
    const NormedSum end = add_rms_norm(x, linear(hidden, down), norm, 1e-5);
    cross_entropy(end.normed, Tensor::from(std::vector<int32_t>{0, 1, 2, 3, 4, 5})).backward();
    return std::vector<Tensor>{x.gradient(), norm.gradient(), gate_up.gradient(), down.gradient()};
  };
  const std::vector<Tensor> exact = gradients(DType::f64, DType::f64);
  for (const DType weights : {DType::f32, DType::bf16}) {
    const std::vector<Tensor> rounded = gradients(DType::bf16, weights);
    for (size_t i = 0; i < exact.size(); ++i) {
      EXPECT_EQ(rounded[i].dtype(), DType::f32);
      // A few roundings of 2^-8 each.
      EXPECT_LT(largest_difference(rounded[i], exact[i]), 0.06 * largest_magnitude(exact[i])) << "input " << i;
    }
  }
}

TEST(OpsTest, WhatDoesNotFitIsRefused) {
  const Variable a(random_input({2, 3}), true), b(random_input({3, 2})), f32(Tensor::zeros({2, 3}, DType::f32));
  expect_check_fails("add: shape (3, 2), expected (2, 3)", [&] { add(a, b); });
  expect_check_fails("multiply: dtypes", [&] { multiply(a, f32); });
  expect_check_fails("matmul: inner dimensions differ", [&] { matmul(a, a); });
  expect_check_fails("linear: x (2, 3), weight (3, 2)", [&] { linear(a, b); });
  expect_check_fails("rms_norm: weight is (2)", [&] { rms_norm(a, Variable(random_input({2})), 1e-5); });
  expect_check_fails("swiglu", [&] { swiglu(a); });
  expect_check_fails("narrow", [&] { narrow(a, 1, 2, 2); });
  expect_check_fails("reshape", [&] { reshape(a, {7}); });
  expect_check_fails("embedding", [&] { embedding(a, Tensor::from(std::vector<int32_t>{5}), DType::f64); });
  expect_check_fails("label", [&] { cross_entropy(a, Tensor::from(std::vector<int32_t>{0, 3})); });
  expect_check_fails("undefined", [&] { add(a, Variable()); });
  EXPECT_EQ(rms_norm(Variable(Tensor::zeros({2, 0}, DType::f64)), Variable(Tensor::zeros({0}, DType::f64)), 1e-5).shape(),
            (Shape{2, 0}));
}

}  // namespace
}  // namespace echo
