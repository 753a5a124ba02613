#include "kernels/losses/hidden_error.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::hidden_error;
using kernels::HiddenError;
using kernels::HiddenNormalization;

struct Case {
  int64_t rows, width;
  bool padding, wide_teacher, accumulate;
  HiddenNormalization normalization;
};

Tensor as_tensor(const HiddenError& error) {
  return Tensor::from(std::vector<double>{error.raw, error.relative, double(error.rows)});
}

// {sums}, and the gradient.
std::vector<Tensor> run(const ParitySetting& on, const Case& c) {
  const Shape shape{c.rows, c.width};
  const Tensor student = on.input(shape, 1), teacher = c.wide_teacher ? on.wide_input(shape, 2, 2) : on.input(shape, 2, 2);
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < c.rows; ++i) labels.push_back(i % 3 == 1 ? -1 : int32_t(i));
  Tensor d_student = on.input(shape, 3);
  const HiddenError error =
      hidden_error(d_student, c.accumulate ? GradientMode::accumulate : GradientMode::overwrite, student, teacher,
                   c.padding ? on.indices(labels, {c.rows}) : Tensor(), c.normalization, 0.25 * double(c.width));
  return {as_tensor(error), d_student};
}

// f32: the sum of a row has up to 4200 terms. Each thread adds at most 36, and a tree adds the rest. bf16: gradients are
// rounded to 8 bits. The sums are not, but use the same tolerance.
TEST(CudaHiddenErrorTest, AgreesWithF64OnTheCpu) {
  constexpr auto kNone = HiddenNormalization::none, kPower = HiddenNormalization::teacher_power;
  for (const Case& c : {Case{1, 1, false, false, false, kNone}, Case{5, 37, true, false, false, kPower},
                        Case{4, 64, true, true, true, kPower}, Case{3, 1032, false, true, false, kNone},
                        Case{2, 4200, false, false, true, kPower}, Case{3, 521, true, false, true, kNone}}) {
    SCOPED_TRACE(concat(c.rows, " x ", c.width));
    const ParityCase body = [&c](const ParitySetting& on) { return run(on, c); };
    expect_parity(body, DType::f32, 2e-6);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

TEST(CudaHiddenErrorTest, TheGradientMayTakeTheTeachersPlace) {
  for (const int64_t width : {64, 4200}) {  // held in registers, and read twice
    const Tensor student = random_tensor({3, width}, DType::bf16, 1).to(kCuda);
    Tensor in_place = random_tensor({3, width}, DType::bf16, 2).to(kCuda), gradient = Tensor::empty_like(in_place);
    const auto run = [&](Tensor& target) {
      return hidden_error(target, GradientMode::overwrite, student, in_place, {}, HiddenNormalization::teacher_power, 3);
    };
    const HiddenError apart = run(gradient), together = run(in_place);
    EXPECT_EQ(apart.relative, together.relative);
    EXPECT_EQ(largest_difference(gradient, in_place), 0);
  }
}

TEST(CudaHiddenErrorTest, SumsAloneAndNoRowsAreFine) {
  Tensor none;
  const Tensor student = random_tensor({6, 24}, DType::bf16, 1), teacher = random_tensor({6, 24}, DType::bf16, 2);
  const HiddenError expected = hidden_error(none, GradientMode::overwrite, student, teacher, {}, HiddenNormalization::none, 1);
  const HiddenError actual =
      hidden_error(none, GradientMode::overwrite, student.to(kCuda), teacher.to(kCuda), {}, HiddenNormalization::none, 1);
  EXPECT_NEAR(actual.raw, expected.raw, 1e-6 * expected.raw);  // sums of 24 terms in f32 on both sides
  EXPECT_NEAR(actual.relative, expected.relative, 1e-6 * expected.relative);
  EXPECT_EQ(actual.rows, 6);
  const Tensor empty = Tensor::empty({0, 24}, DType::bf16, kCuda);
  EXPECT_EQ(hidden_error(none, GradientMode::overwrite, empty, empty, {}, HiddenNormalization::none, 1).rows, 0);
}

TEST(CudaHiddenErrorTest, PaddingIsNotLookedAtAndNanIsSeen) {
  std::vector<float> values(16, 1);
  values[9] = std::nanf("");
  const Tensor student = Tensor::from(values, {2, 8}).to(kCuda), teacher = Tensor::full({2, 8}, 2, DType::f32, kCuda);
  Tensor d_student = Tensor::full({2, 8}, 5, DType::f32, kCuda);
  const auto error = [&](const std::vector<int32_t>& labels) {
    return hidden_error(d_student, GradientMode::overwrite, student, teacher, Tensor::from(labels).to(kCuda),
                        HiddenNormalization::none, 4);
  };
  EXPECT_EQ(error({3, -1}).raw, 1);
  std::vector<float> expected(16, -1);
  std::fill(expected.begin() + 8, expected.end(), 0.0f);
  EXPECT_EQ(d_student.to_vector<float>(), expected);
  EXPECT_TRUE(std::isnan(error({3, 0}).raw));
}

}  // namespace
}  // namespace echo
