#include "kernels/optimizer/adamw.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::AdamWSettings;
using kernels::AdamWSpan;

AdamWSpan make_span(int64_t count, DType dtype, uint64_t seed, double weight_decay) {
  return {random_tensor({count}, dtype, seed), random_tensor({count}, dtype, seed + 1), Tensor::zeros({count}, dtype),
          Tensor::zeros({count}, dtype), weight_decay};
}

// One step for one element, as in the algorithm of PyTorch's documentation.
void naive_step(double& p, double g, double& m, double& v, double weight_decay, const AdamWSettings& s) {
  g *= s.gradient_scale;
  p -= s.learning_rate * weight_decay * p;
  m = s.beta1 * m + (1 - s.beta1) * g;
  v = s.beta2 * v + (1 - s.beta2) * g * g;
  const double m_hat = m / (1 - std::pow(s.beta1, double(s.step))), v_hat = v / (1 - std::pow(s.beta2, double(s.step)));
  p -= s.learning_rate * m_hat / (std::sqrt(v_hat) + s.epsilon);
}

TEST(AdamWTest, MatchesTheNaiveLoopOverTensorsOfVeryDifferentSize) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    std::vector<AdamWSpan> spans = {make_span(1, dtype, 1, 0.1), make_span(100'003, dtype, 3, 0), make_span(17, dtype, 5, 0.01),
                                    make_span(0, dtype, 7, 0.01), make_span(1 << 15, dtype, 9, 0.1)};
    AdamWSettings settings{.learning_rate = 1e-2, .gradient_scale = 0.7};
    std::vector<std::vector<double>> p, m, v;
    for (const AdamWSpan& span : spans) {
      p.push_back(values_of(span.parameter));
      m.emplace_back(p.back().size());
      v.emplace_back(p.back().size());
    }
    for (settings.step = 1; settings.step <= 4; ++settings.step) {
      kernels::adamw(spans, settings);
      for (size_t i = 0; i < spans.size(); ++i) {
        const std::vector<double> g = values_of(spans[i].gradient);
        for (size_t j = 0; j < g.size(); ++j) naive_step(p[i][j], g[j], m[i][j], v[i][j], spans[i].weight_decay, settings);
      }
    }
    // Parameters of size up to 5, four steps of some ten roundings each.
    const double tolerance = dtype == DType::f64 ? 1e-14 : 2e-6;
    for (size_t i = 0; i < spans.size(); ++i) {
      EXPECT_LT(largest_difference(spans[i].parameter, Tensor::from(p[i])), tolerance) << "tensor " << i;
      EXPECT_LT(largest_difference(spans[i].first_moment, Tensor::from(m[i])), tolerance) << "tensor " << i;
      EXPECT_LT(largest_difference(spans[i].second_moment, Tensor::from(v[i])), tolerance) << "tensor " << i;
    }
  }
}

TEST(AdamWTest, FirstStepsAreThoseWorkedOutByHand) {
  // p = 1, lr 0.1, betas 0.9 and 0.999, weight decay 0.01.  Step 1, g = 0.5: p -> 1 * (1 - 0.001) = 0.999, m = 0.05, v
  // = 2.5e-4; corrected 0.5 and 0.25, so p -> 0.999 - 0.1 * 0.5 / (0.5 + 1e-8) = 0.899000002.  Step 2, g = -1: p ->
  // 0.899000002 * 0.999 = 0.898101001998; m = 0.045 - 0.1 = -0.055, v = 2.4975e-4 + 1e-3 = 1.24975e-3; corrected -0.055
  // / 0.19 and 1.24975e-3 / 1.999e-3.
  std::array spans = {AdamWSpan{Tensor::full({1}, 1, DType::f64), Tensor::full({1}, 0.5, DType::f64),
                                Tensor::zeros({1}, DType::f64), Tensor::zeros({1}, DType::f64), 0.01}};
  kernels::adamw(spans, {.learning_rate = 0.1, .step = 1});
  EXPECT_NEAR(spans[0].parameter.item(), 0.899000002, 1e-12);
  EXPECT_NEAR(spans[0].first_moment.item(), 0.05, 1e-16);
  EXPECT_NEAR(spans[0].second_moment.item(), 2.5e-4, 1e-18);
  spans[0].gradient.data<double>()[0] = -1;
  kernels::adamw(spans, {.learning_rate = 0.1, .step = 2});
  const double expected = 0.898101001998 + 0.1 * (0.055 / 0.19) / (std::sqrt(1.24975e-3 / 1.999e-3) + 1e-8);
  EXPECT_NEAR(spans[0].parameter.item(), expected, 1e-11);  // the hand-worked start is rounded to 12 digits
}

TEST(AdamWTest, ShadowIsTheNewParameterRounded) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    std::array spans = {make_span(70'001, dtype, 1, 0.1), make_span(3, dtype, 3, 0)};
    for (AdamWSpan& span : spans) span.compute_copy = Tensor::zeros(span.parameter.shape(), DType::bf16);
    kernels::adamw(spans, {.learning_rate = 0.1});
    for (const AdamWSpan& span : spans)
      EXPECT_EQ(values_of(span.compute_copy), values_of(kernels::cast(span.parameter, DType::bf16))) << dtype;
    EXPECT_NE(values_of(spans[0].parameter), values_of(random_tensor({70'001}, dtype, 1)));
  }
}

TEST(AdamWTest, WrongArgumentsAreNamed) {
  std::array spans = {make_span(4, DType::f32, 1, 0)};
  EXPECT_NE(error_message(ExitCode::internal, [&] { kernels::adamw(spans, {.step = 0}); }).find("step 0"), std::string::npos);
  spans[0].gradient = Tensor::zeros({5}, DType::f32);
  EXPECT_NE(error_message(ExitCode::internal, [&] { kernels::adamw(spans, {}); }).find("(5)"), std::string::npos);
  spans[0].gradient = Tensor::zeros({4}, DType::f64);
  EXPECT_NE(error_message(ExitCode::internal, [&] { kernels::adamw(spans, {}); }).find("f64"), std::string::npos);
  spans[0].gradient = Tensor::zeros({4}, DType::f32);
  spans[0].compute_copy = Tensor::zeros({4}, DType::f32);
  EXPECT_NE(error_message(ExitCode::internal, [&] { kernels::adamw(spans, {}); }).find("compute_copy"), std::string::npos);
}

}  // namespace
}  // namespace echo
