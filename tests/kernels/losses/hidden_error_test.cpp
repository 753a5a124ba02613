#include "kernels/losses/hidden_error.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::HiddenError;
using kernels::HiddenNormalization;

constexpr HiddenNormalization kNormalizations[] = {HiddenNormalization::none, HiddenNormalization::teacher_power};
const std::vector<int32_t> kLabels = {3, -1, 0, 2, -1, 9};

HiddenError naive(const Tensor& student, const Tensor& teacher) {
  const std::vector<double> s = values_of(student), t = values_of(teacher);
  const size_t width = size_t(student.dim(1));
  HiddenError result;
  for (size_t row = 0; row < kLabels.size(); ++row) {
    if (kLabels[row] < 0) continue;
    double error = 0, power = 0;
    for (size_t i = row * width; i < (row + 1) * width; ++i) {
      error += (s[i] - t[i]) * (s[i] - t[i]) / double(width);
      power += t[i] * t[i] / double(width);
    }
    result += {error, error / (power + 1e-6), 1};
  }
  return result;
}

HiddenError measure(const Tensor& student, const Tensor& teacher) {
  Tensor none;
  return kernels::hidden_error(none, GradientMode::overwrite, student, teacher, Tensor::from(kLabels),
                               HiddenNormalization::none, 1);
}

TEST(HiddenErrorTest, SumsMatchTheirFormulas) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor student = random_tensor({6, 50}, dtype, 1), teacher = random_tensor({6, 50}, dtype, 2, 3);
    const HiddenError expected = naive(student, teacher), actual = measure(student, teacher);
    const double tolerance = dtype == DType::f64 ? 1e-14 : 1e-6;  // f32 sums of 50 terms in lanes; bf16 inputs are exact in f32
    EXPECT_NEAR(actual.raw, expected.raw, tolerance * expected.raw);
    EXPECT_NEAR(actual.relative, expected.relative, tolerance * expected.relative);
    EXPECT_EQ(actual.rows, 4);
  }
  const Tensor student = random_tensor({6, 50}, DType::f32, 1), teacher = random_tensor({6, 50}, DType::bf16, 2, 3);
  EXPECT_NEAR(measure(student, teacher).raw, naive(student, teacher).raw, 1e-6 * naive(student, teacher).raw);
}

TEST(HiddenErrorTest, GradientMatchesFiniteDifferencesAndIsZeroInPadding) {
  for (const HiddenNormalization normalization : kNormalizations) {
    Tensor student = random_tensor({6, 5}, DType::f64, 1), gradient = Tensor::full({6, 5}, 7, DType::f64);
    const Tensor teacher = random_tensor({6, 5}, DType::f64, 2);
    kernels::hidden_error(gradient, GradientMode::overwrite, student, teacher, Tensor::from(kLabels), normalization, 0.5);
    const auto loss = [&] {
      const HiddenError error = naive(student, teacher);
      return 0.5 * (normalization == HiddenNormalization::none ? error.raw : error.relative);
    };
    for (int64_t i = 0; i < student.elements(); ++i) {
      double& x = student.data<double>()[i];
      const double before = x, step = 1e-4;
      x = before + step;
      const double above = loss();
      x = before - step;
      const double below = loss();
      x = before;
      // The loss is a parabola: no truncation error, rounding some 1e-15 * 10 / 1e-4.
      EXPECT_NEAR(gradient.data<double>()[i], (above - below) / (2 * step), 1e-9);
      if (kLabels[size_t(i / 5)] < 0) {
        EXPECT_EQ(gradient.data<double>()[i], 0);
      }
    }
  }
}

TEST(HiddenErrorTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  const Tensor student = random_tensor({701, 64}, DType::f32, 1), teacher = random_tensor({701, 64}, DType::f32, 2);
  const Tensor labels = Tensor::zeros({701}, DType::i32);
  expect_same_bits_on_any_number_of_threads([&] {
    Tensor gradient = Tensor::empty_like(student);
    const HiddenError error = kernels::hidden_error(gradient, GradientMode::overwrite, student, teacher, labels,
                                                    HiddenNormalization::teacher_power, 1);
    std::vector<double> results = values_of(gradient);
    results.insert(results.end(), {error.raw, error.relative});
    return results;
  });
}

TEST(HiddenErrorTest, GradientAccumulates) {
  const Tensor student = random_tensor({6, 5}, DType::f64, 1), teacher = random_tensor({6, 5}, DType::f64, 2);
  Tensor once = Tensor::empty({6, 5}, DType::f64), added = Tensor::full({6, 5}, 7, DType::f64);
  for (Tensor* gradient : {&once, &added})
    kernels::hidden_error(*gradient, gradient == &once ? GradientMode::overwrite : GradientMode::accumulate, student, teacher,
                          {}, HiddenNormalization::none, 1);
  for (int64_t i = 0; i < once.elements(); ++i) EXPECT_NEAR(added.data<double>()[i], once.data<double>()[i] + 7, 1e-14);
}

TEST(HiddenErrorTest, AnySplitOfTheRowsGivesTheSameSums) {
  const Tensor student = random_tensor({6, 40}, DType::f64, 1), teacher = random_tensor({6, 40}, DType::f64, 2);
  const HiddenError whole = measure(student, teacher);
  HiddenError parts;
  Tensor none;
  for (int64_t row = 0; row < 6; row += 2)
    parts += kernels::hidden_error(none, GradientMode::overwrite, student.narrow(0, row, 2), teacher.narrow(0, row, 2),
                                   Tensor::from(kLabels).narrow(0, row, 2), HiddenNormalization::teacher_power, 1);
  EXPECT_NEAR(parts.raw, whole.raw, 1e-14 * whole.raw);
  EXPECT_NEAR(parts.relative, whole.relative, 1e-14 * whole.relative);
}

TEST(HiddenErrorTest, TeacherOfZerosGivesFiniteNumbers) {
  Tensor gradient = Tensor::empty({6, 5}, DType::f32);
  const Tensor student = random_tensor({6, 5}, DType::f32, 1), teacher = Tensor::zeros({6, 5}, DType::f32);
  const HiddenError error =
      kernels::hidden_error(gradient, GradientMode::overwrite, student, teacher, {}, HiddenNormalization::teacher_power, 1);
  EXPECT_TRUE(std::isfinite(error.relative));
  EXPECT_TRUE(std::isfinite(largest_magnitude(gradient)));
}

TEST(HiddenErrorTest, TheGradientMayTakeTheTeachersPlace) {
  const Tensor student = random_tensor({6, 70}, DType::bf16, 1), labels = Tensor::from(kLabels);
  Tensor in_place = random_tensor({6, 70}, DType::bf16, 2), gradient = Tensor::empty({6, 70}, DType::bf16);
  const auto run = [&](Tensor& target) {
    return kernels::hidden_error(target, GradientMode::overwrite, student, in_place, labels, HiddenNormalization::teacher_power,
                                 3);
  };
  const HiddenError apart = run(gradient), together = run(in_place);
  EXPECT_EQ(apart.relative, together.relative);
  EXPECT_EQ(largest_difference(gradient, in_place), 0);
}

TEST(HiddenErrorTest, WrongArgumentsAreNamed) {
  Tensor none;
  const Tensor student = Tensor::zeros({6, 5}, DType::f32);
  const auto message = [&](const Tensor& teacher, const Tensor& labels) {
    return error_message(ExitCode::internal, [&] {
      kernels::hidden_error(none, GradientMode::overwrite, student, teacher, labels, HiddenNormalization::none, 1);
    });
  };
  EXPECT_NE(message(Tensor::zeros({6, 4}, DType::f32), {}).find("(6, 4)"), std::string::npos);
  EXPECT_NE(message(Tensor::zeros({6, 5}, DType::f64), {}).find("f64"), std::string::npos);
  EXPECT_NE(message(student, Tensor::from(std::vector<int32_t>{1})).find("6 rows"), std::string::npos);
}

}  // namespace
}  // namespace echo
