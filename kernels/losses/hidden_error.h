#pragma once

#include "kernels/gradient_mode.h"
#include "kernels/losses/loss_term.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// What a row's squared difference is divided by before it counts. `teacher_power` serves residual streams in which a
// few huge activations would swamp every other term.
enum class HiddenNormalization { none, teacher_power };

// Sums over the rows that count; divide by the global number of tokens for a mean.
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

// Keeps a teacher row of zeros from dividing by zero.
inline constexpr double kTeacherPowerFloor = 1e-6;

// The distance between hidden states of student and teacher, row by row, and the gradient of gradient_scale * (the sum
// that `normalization` names) with respect to the student's.
//   student, teacher: (..., D), any floating dtypes with the same accumulator (f64 goes with f64 only), contiguous.
//   labels: as many i32 as there are rows; rows with -1 are padding, count nowhere and get the gradient 0. Undefined:
//   all count.
//   d_student: the student's shape and dtype; undefined: no gradient is wanted. When overwritten it may be the teacher's own
//   memory: an element is read before it is written.
// The power is that of the teacher's own row, not of the batch: the term then is a sum over tokens that comes out the
// same however a global batch is split into micro-batches.
// Sums of a row in f32 (f64 for f64), over rows in f64.
// Throws Error when shapes, dtypes or devices do not fit.
HiddenError hidden_error(Tensor& d_student, GradientMode mode, const Tensor& student, const Tensor& teacher,
                         const Tensor& labels, HiddenNormalization normalization, double gradient_scale);

namespace cpu {
decltype(kernels::hidden_error) hidden_error;
}  // namespace cpu
namespace cuda {
decltype(kernels::hidden_error) hidden_error;
}  // namespace cuda

}  // namespace echo::kernels
