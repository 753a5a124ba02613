#pragma once

#include "kernels/gradient_mode.h"
#include "kernels/losses/loss_term.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// The divisor of a row's squared difference. `teacher_power` is for residual streams in which a few huge activations would hide
// every other term.
enum class HiddenNormalization { none, teacher_power };

// Sums over the rows that count. For a mean, divide by the number of tokens of the whole step.
struct HiddenError {
  double raw = 0;       // sum of mean_d (s - t)^2
  double relative = 0;  // sum of mean_d (s - t)^2 / (mean_d t^2 + kTeacherPowerFloor)
  int64_t rows = 0;     // rows that count

  // The list of the terms (kernels/losses/loss_term.h).
  template <class Field>
  static constexpr void visit(Field&& field) {
    field(LossTerm{"hidden_raw", "hidden_mse"}, &HiddenError::raw);
    field(LossTerm{"hidden_relative", "hidden_relative"}, &HiddenError::relative);
    field(LossTerm{"hidden_rows", nullptr}, &HiddenError::rows);
  }
  HiddenError& operator+=(const HiddenError& other) {
    add_terms(*this, other);
    return *this;
  }
};
static_assert(sizeof(HiddenError) == count_terms<HiddenError>() * sizeof(double), "visit() leaves a member out");

// Avoids a division by zero for a teacher row of zeros.
inline constexpr double kTeacherPowerFloor = 1e-6;

// The distance between the hidden states of student and teacher, row by row, and the gradient of gradient_scale * (the sum that
// `normalization` selects: raw or relative) with respect to the student's states.
//   student, teacher: (..., D), contiguous, floating dtypes with the same accumulator (f64 goes with f64 only).
//   labels: one i32 per row. Rows with -1 are padding: they count nowhere and their gradient is 0. Undefined: all rows count.
//   d_student: the student's shape and dtype. Undefined: not computed. In overwrite mode it may be the teacher's memory,
//   because each element is read before it is written.
// The power is that of the teacher's own row, not of the batch. So the term is a sum over tokens that does not depend on how a
// batch is split into micro-batches.
// Sums of a row are f32 (f64 for f64), sums over rows are f64.
// Throws Error when shapes, dtypes or devices do not fit. Waits for the GPU.
HiddenError hidden_error(Tensor& d_student, GradientMode mode, const Tensor& student, const Tensor& teacher,
                         const Tensor& labels, HiddenNormalization normalization, double gradient_scale);

namespace cpu {
decltype(kernels::hidden_error) hidden_error;
}  // namespace cpu
namespace cuda {
decltype(kernels::hidden_error) hidden_error;
}  // namespace cuda

}  // namespace echo::kernels
