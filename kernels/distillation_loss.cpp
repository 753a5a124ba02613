#include "kernels/distillation_loss.h"

#include <algorithm>
#include <type_traits>

#include "kernels/distillation_rows.h"
#include "kernels/matmul.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace {

void check_head(const char* name, const Tensor& hidden, const Tensor& head, int64_t rows) {
  ECHO_CHECK(hidden.defined() && head.defined() && hidden.rank() == 2 && head.rank() == 2 && hidden.dim(0) == rows &&
                 hidden.dim(1) == head.dim(1) && hidden.dtype() == head.dtype() && is_float(hidden.dtype()),
             "distillation_head: ", name, " hidden ", hidden, ", head ", head, " for ", rows,
             " labels, expected (N, D) and (V, D) of one dtype");
  ECHO_CHECK(head.device() == hidden.device(), "distillation_head: ", name, " hidden on ", hidden.device(), ", head on ",
             head.device());
}

void check_labels(const Tensor& labels, int64_t vocabulary) {
  const int32_t* values = labels.data<int32_t>();
  for (int64_t i = 0, rows = labels.elements(); i < rows; ++i)
    ECHO_CHECK(values[i] >= -1 && values[i] < vocabulary, "distillation_head: label ", values[i], " in row ", i,
               ", expected -1 to ", vocabulary - 1);
}

// Every chunk costs a pass over both heads and over the head's gradient, so there are as few as the scratch allows;
// they are of nearly equal size, since a small last one costs as much as a large one.
int64_t default_chunk_rows(int64_t bytes_per_row, int64_t rows) {
  constexpr int64_t kStep = 16;
  const int64_t most = std::max<int64_t>(kHeadScratch / bytes_per_row, 1);
  if (rows <= most) return rows;
  const int64_t chunks = (rows + most - 1) / most, even = (rows + chunks - 1) / chunks;
  return std::min(most, (even + kStep - 1) / kStep * kStep);
}

}  // namespace

namespace cpu {
namespace {

// A: the type of logits; G: of their gradient, which is the operands'.
template <class A, class G>
DistillationTerms distillation_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode,
                                    const Tensor& student_hidden, const Tensor& student_head, const Tensor& teacher_hidden,
                                    const Tensor& teacher_head, const Tensor& labels, const DistillationWeights& weights,
                                    double gradient_scale, const DistillationReport& report, int64_t chunk_rows) {
  const int64_t rows = student_hidden.dim(0), vocabulary = student_head.dim(0);
  const bool with_teacher = teacher_hidden.defined();
  const bool with_gradient = d_student_hidden.defined() || d_student_head.defined();
  constexpr bool kInPlace = std::is_same_v<A, G>;
  const int64_t bytes_per_row =
      vocabulary * int64_t(sizeof(A) * (with_teacher ? 2 : 1) + (with_gradient && !kInPlace ? sizeof(G) : 0));
  if (chunk_rows == 0) chunk_rows = default_chunk_rows(bytes_per_row, rows);
  chunk_rows = std::min(chunk_rows, rows);

  const Shape chunk_shape{chunk_rows, vocabulary};
  Tensor student_scratch = Tensor::empty(chunk_shape, dtype_of<A>), teacher_scratch, gradient_scratch;
  if (with_teacher) teacher_scratch = Tensor::empty(chunk_shape, dtype_of<A>);
  if (with_gradient) gradient_scratch = kInPlace ? student_scratch : Tensor::empty(chunk_shape, dtype_of<G>);

  DistillationTerms total;
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, rows - begin);
    const Tensor hidden = student_hidden.narrow(0, begin, count);
    Tensor student_logits = student_scratch.narrow(0, 0, count);  // (count, V)
    matmul(student_logits, hidden, Transpose::no, student_head, Transpose::yes);
    if (with_teacher) {
      Tensor teacher_logits = teacher_scratch.narrow(0, 0, count);  // (count, V)
      matmul(teacher_logits, teacher_hidden.narrow(0, begin, count), Transpose::no, teacher_head, Transpose::yes);
    }
    total += rows::distillation_rows<A, G>(with_gradient ? gradient_scratch.data<G>() : nullptr, student_logits.data<A>(),
                                           with_teacher ? teacher_scratch.data<A>() : nullptr, labels.data<int32_t>() + begin,
                                           count, vocabulary, weights, gradient_scale, report);
    if (!with_gradient) continue;
    const Tensor d_logits = gradient_scratch.narrow(0, 0, count);
    if (d_student_hidden.defined()) {
      Tensor d_hidden = d_student_hidden.narrow(0, begin, count);
      matmul(d_hidden, d_logits, Transpose::no, student_head, Transpose::no);
    }
    if (d_student_head.defined())
      matmul(d_student_head, d_logits, Transpose::yes, hidden, Transpose::no,
             begin == 0 ? head_mode : GradientMode::accumulate);
  }
  if (rows == 0 && d_student_head.defined() && head_mode == GradientMode::overwrite) d_student_head.fill_zero();
  return total;
}

}  // namespace
}  // namespace cpu

DistillationTerms& DistillationTerms::operator+=(const DistillationTerms& other) {
  kl += other.kl;
  kl_student_teacher += other.kl_student_teacher;
  kl_teacher_student += other.kl_teacher_student;
  jensen_shannon += other.jensen_shannon;
  hard_label += other.hard_label;
  true_label += other.true_label;
  rows += other.rows;
  agreements += other.agreements;
  correct += other.correct;
  return *this;
}

double weighted_loss(const DistillationTerms& terms, const DistillationWeights& weights) {
  return weights.kl * terms.kl + weights.hard_label * terms.hard_label + weights.true_label * terms.true_label;
}

DistillationTerms distillation_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode,
                                    const Tensor& student_hidden, const Tensor& student_head, const Tensor& teacher_hidden,
                                    const Tensor& teacher_head, const Tensor& labels, const DistillationWeights& weights,
                                    double gradient_scale, const DistillationReport& report, int64_t chunk_rows) {
  ECHO_CHECK(labels.defined() && labels.dtype() == DType::i32 && labels.is_contiguous(), "distillation_head: labels ", labels,
             ", expected contiguous i32");
  const int64_t rows = labels.elements();
  check_head("student", student_hidden, student_head, rows);
  const int64_t vocabulary = student_head.dim(0);
  const DType dtype = student_hidden.dtype(), logit_dtype = accumulator_dtype(dtype);
  ECHO_CHECK(vocabulary > 0, "distillation_head: head ", student_head, " has no rows");
  ECHO_CHECK(teacher_hidden.defined() == teacher_head.defined(), "distillation_head: teacher hidden ", teacher_hidden,
             ", teacher head ", teacher_head, ", expected both or neither");
  if (teacher_hidden.defined()) {
    check_head("teacher", teacher_hidden, teacher_head, rows);
    ECHO_CHECK(teacher_head.dim(0) == vocabulary && accumulator_dtype(teacher_head.dtype()) == logit_dtype &&
                   teacher_hidden.device() == student_hidden.device(),
               "distillation_head: teacher head ", teacher_head, ", student head ", student_head);
  } else {
    ECHO_CHECK(weights.kl == 0 && weights.hard_label == 0, "distillation_head: weights kl ", weights.kl, " and hard_label ",
               weights.hard_label, " need a teacher");
  }
  ECHO_CHECK(weights.temperature > 0, "distillation_head: temperature ", weights.temperature, ", expected above 0");
  ECHO_CHECK(chunk_rows >= 0, "distillation_head: chunk_rows ", chunk_rows);
  if (d_student_hidden.defined())
    ECHO_CHECK(d_student_hidden.shape() == student_hidden.shape() && d_student_hidden.dtype() == dtype,
               "distillation_head: d_student_hidden ", d_student_hidden, ", expected ", dtype, " ", student_hidden.shape());
  if (d_student_head.defined())
    ECHO_CHECK(d_student_head.shape() == student_head.shape() && d_student_head.dtype() == logit_dtype &&
                   d_student_head.is_contiguous(),
               "distillation_head: d_student_head ", d_student_head, ", expected ", logit_dtype, " ", student_head.shape());
  require_cpu("distillation_head", student_hidden);
  check_labels(labels, vocabulary);
  const auto run = [&]<class A, class G>(A, G) {
    return cpu::distillation_head<A, G>(d_student_hidden, d_student_head, head_mode, student_hidden, student_head,
                                        teacher_hidden, teacher_head, labels, weights, gradient_scale, report, chunk_rows);
  };
  if (dtype == DType::f64) return run(double{}, double{});
  if (dtype == DType::bf16) return run(float{}, bfloat16{});
  return run(float{}, float{});
}

}  // namespace echo::kernels
