#include "kernels/losses/cross_entropy.h"

#include <gtest/gtest.h>

#include "kernels/losses/distillation_loss.h"
#include "kernels/matmul/matmul.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::CrossEntropyTerms;

const std::vector<int32_t> kLabels = {0, 6, -1, 3, 3};

// -log softmax(logits)[label], straight from the definition in f64.
double naive_loss(const Tensor& logits) {
  const std::vector<double> x = values_of(logits);
  const size_t count = size_t(logits.dim(1));
  double total = 0;
  for (size_t row = 0; row < kLabels.size(); ++row) {
    if (kLabels[row] < 0) continue;
    double z = 0;
    for (size_t v = 0; v < count; ++v) z += std::exp(x[row * count + v]);
    total += std::log(z) - x[row * count + size_t(kLabels[row])];
  }
  return total;
}

TEST(CrossEntropyTest, LossMatchesItsFormula) {
  for (const int64_t vocabulary : {7, 600}) {
    const Tensor f64 = random_tensor({5, vocabulary}, DType::f64, 1, 3), f32 = kernels::cast(f64, DType::f32);
    const Tensor labels = Tensor::from(kLabels);
    EXPECT_NEAR(kernels::cross_entropy(f64, labels).loss, naive_loss(f64), 1e-12);
    EXPECT_NEAR(kernels::cross_entropy(f32, labels).loss, naive_loss(f32), 1e-5);  // four rows of f32 sums, logits up to 10
    EXPECT_EQ(kernels::cross_entropy(f64, labels).rows, 4);
  }
}

TEST(CrossEntropyTest, GradientMatchesFiniteDifferences) {
  Tensor logits = random_tensor({5, 7}, DType::f64, 2), gradient = logits.clone();
  kernels::cross_entropy_with_gradient(gradient, Tensor::from(kLabels), 0.5);
  for (int64_t i = 0; i < logits.elements(); ++i) {
    double& x = logits.data<double>()[i];
    const double before = x, step = 1e-5;
    x = before + step;
    const double above = 0.5 * naive_loss(logits);
    x = before - step;
    const double below = 0.5 * naive_loss(logits);
    x = before;
    EXPECT_NEAR(gradient.data<double>()[i], (above - below) / (2 * step), 1e-9);  // f64: truncation 1e-10, rounding 1e-10
  }
}

TEST(CrossEntropyTest, CorrectCountsTheFirstOfEqualLogits) {
  Tensor logits = Tensor::zeros({3, 1500}, DType::f32);
  logits.data<float>()[1500 + 1400] = 1;
  logits.data<float>()[1500 + 1401] = 1;
  logits.data<float>()[3000 + 700] = 1;
  EXPECT_EQ(kernels::cross_entropy(logits, Tensor::from(std::vector<int32_t>{0, 1400, 700})).correct, 3);
  EXPECT_EQ(kernels::cross_entropy(logits, Tensor::from(std::vector<int32_t>{1, 1401, 699})).correct, 0);
}

TEST(CrossEntropyTest, LargeLogitsStayFiniteAndOthersShow) {
  Tensor logits = Tensor::from(std::vector<float>{1e4f, -1e4f, 0, 3e38f, -3e38f, 0}, {2, 3});
  const Tensor labels = Tensor::from(std::vector<int32_t>{1, 0});
  EXPECT_NEAR(kernels::cross_entropy(logits, labels).loss, 2e4, 1e-2);
  Tensor gradient = logits.clone();
  kernels::cross_entropy_with_gradient(gradient, labels, 1);
  EXPECT_TRUE(all_finite(gradient));
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    logits.data<float>()[5] = bad;
    EXPECT_TRUE(std::isnan(kernels::cross_entropy(logits, labels).loss));
  }
}

// The head with true labels only.
TEST(CrossEntropyTest, EqualsTheDistillationHeadAfterTheProduct) {
  const Tensor hidden = random_tensor({5, 6}, DType::f64, 3), head = random_tensor({7, 6}, DType::f64, 4);
  const Tensor labels = Tensor::from(kLabels);
  Tensor logits = Tensor::empty({5, 7}, DType::f64);
  kernels::matmul(logits, hidden, kernels::Transpose::no, head, kernels::Transpose::yes);
  const CrossEntropyTerms expected = kernels::cross_entropy_with_gradient(logits, labels, 0.3);
  Tensor expected_hidden = Tensor::empty_like(hidden), expected_head = Tensor::empty_like(head);
  kernels::matmul(expected_hidden, logits, kernels::Transpose::no, head, kernels::Transpose::no);
  kernels::matmul(expected_head, logits, kernels::Transpose::yes, hidden, kernels::Transpose::no);
  Tensor d_hidden = Tensor::empty_like(hidden), d_head = Tensor::empty_like(head);
  const kernels::DistillationTerms terms =
      kernels::distillation_head(d_hidden, d_head, GradientMode::overwrite, hidden, head, {}, {}, labels,
                                 {.kl = 0, .hard_label = 0, .true_label = 1}, 0.3, 2);
  EXPECT_NEAR(terms.true_label, expected.loss, 1e-13);
  EXPECT_EQ(terms.correct, expected.correct);
  EXPECT_LT(largest_difference(d_hidden, expected_hidden), 1e-14);
  EXPECT_LT(largest_difference(d_head, expected_head), 1e-14);
}

TEST(CrossEntropyTest, WrongArgumentsAreNamed) {
  const Tensor logits = Tensor::zeros({2, 3}, DType::f32);
  const auto message = [&](const Tensor& labels) {
    return error_message(ExitCode::internal, [&] { kernels::cross_entropy(logits, labels); });
  };
  EXPECT_NE(message(Tensor::from(std::vector<int32_t>{0, 3})).find("label 3 in row 1"), std::string::npos);
  EXPECT_NE(message(Tensor::from(std::vector<int32_t>{-2, 0})).find("label -2 in row 0"), std::string::npos);
  EXPECT_NE(message(Tensor::from(std::vector<int32_t>{0})).find("one i32 per row"), std::string::npos);
}

}  // namespace
}  // namespace echo
