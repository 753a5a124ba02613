#include "kernels/losses/hidden_error.h"

#include <algorithm>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

struct Row {
  double raw = 0;    // mean_d (s - t)^2
  double power = 1;  // mean_d t^2 + kTeacherPowerFloor
  bool counts = false;
};

template <class S, class T>
Row row_error(const S* student, const T* teacher, int64_t width) {
  using A = accumulator<S>;
  A difference = 0, power = 0;
#pragma omp simd reduction(+ : difference, power)
  for (int64_t i = 0; i < width; ++i) {
    const A t = A(teacher[i]), d = A(student[i]) - t;
    difference += d * d;
    power += t * t;
  }
  return {double(difference) / double(width), double(power) / double(width) + kTeacherPowerFloor, true};
}

template <class S, class T>
void add_row_gradient(S* gradient, GradientMode mode, const S* student, const T* teacher, int64_t width, double factor) {
  using A = accumulator<S>;
  const A a_factor = A(factor);
  if (mode == GradientMode::overwrite) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) assign(gradient[i], a_factor * (A(student[i]) - A(teacher[i])));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) assign(gradient[i], A(gradient[i]) + a_factor * (A(student[i]) - A(teacher[i])));
  }
}

template <class S, class T>
HiddenError sum_rows(S* gradient, GradientMode mode, const S* student, const T* teacher, const int32_t* labels, int64_t rows,
                     int64_t width, HiddenNormalization normalization, double gradient_scale) {
  std::vector<Row> results(static_cast<size_t>(rows));
#pragma omp parallel for schedule(static) if (rows * width > kSerialElements)
  for (int64_t row = 0; row < rows; ++row) {
    const S* s = student + row * width;
    const T* t = teacher + row * width;
    S* ds = gradient != nullptr ? gradient + row * width : nullptr;
    if (labels != nullptr && labels[row] < 0) {
      if (ds != nullptr && mode == GradientMode::overwrite) std::fill(ds, ds + width, S(0));
      continue;
    }
    const Row result = results[size_t(row)] = row_error(s, t, width);
    if (ds == nullptr) continue;
    double factor = gradient_scale * 2 / double(width);
    if (normalization == HiddenNormalization::teacher_power) factor /= result.power;
    add_row_gradient(ds, mode, s, t, width, factor);
  }
  HiddenError total;
  for (const Row& row : results) {
    total.raw += row.raw;
    total.relative += row.raw / row.power;
    total.rows += row.counts;
  }
  return total;
}

}  // namespace

HiddenError hidden_error(Tensor& d_student, GradientMode mode, const Tensor& student, const Tensor& teacher,
                         const Tensor& labels, HiddenNormalization normalization, double gradient_scale) {
  const int64_t width = student.dim(-1), rows = student.elements() / width;
  HiddenError result;
  const int32_t* label_values = labels.defined() ? labels.data<int32_t>() : nullptr;
  dispatch_float(student.dtype(), [&]<class S>() {
    dispatch_float(teacher.dtype(), [&]<class T>() {
      if constexpr (std::is_same_v<accumulator<S>, accumulator<T>>)
        result = sum_rows(d_student.defined() ? d_student.data<S>() : nullptr, mode, student.data<S>(), teacher.data<T>(),
                          label_values, rows, width, normalization, gradient_scale);
    });
  });
  return result;
}

}  // namespace cpu

HiddenError hidden_error(Tensor& d_student, GradientMode mode, const Tensor& student, const Tensor& teacher,
                         const Tensor& labels, HiddenNormalization normalization, double gradient_scale) {
  check_operands("hidden_error", student.shape(), {&student, &teacher});
  ECHO_CHECK(student.rank() >= 1 && student.dim(-1) > 0, "hidden_error: student ", student, ", expected (..., D)");
  ECHO_CHECK(is_float(student.dtype()) && is_float(teacher.dtype()) &&
                 accumulator_dtype(student.dtype()) == accumulator_dtype(teacher.dtype()),
             "hidden_error: student ", student, " and teacher ", teacher);
  if (d_student.defined()) {
    check_operands("hidden_error", student.shape(), {&student, &d_student});
    check_same_dtype("hidden_error", {&student, &d_student});
  }
  const int64_t width = student.dim(-1), rows = student.elements() / width;
  if (labels.defined())
    ECHO_CHECK(labels.dtype() == DType::i32 && labels.is_contiguous() && labels.elements() == rows &&
                   labels.device() == student.device(),
               "hidden_error: labels ", labels, " for ", rows, " rows, expected one i32 per row");
  return ECHO_DISPATCH_DEVICE(student, hidden_error, d_student, mode, student, teacher, labels, normalization, gradient_scale);
}

}  // namespace echo::kernels
