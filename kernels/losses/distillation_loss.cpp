#include "kernels/losses/distillation_loss.h"

#include "kernels/dispatch.h"
#include "kernels/losses/distillation_rows.h"
#include "kernels/losses/head_chunks.h"

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

}  // namespace

namespace cpu {

DistillationTerms distillation_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode,
                                    const Tensor& student_hidden, const Tensor& student_head, const Tensor& teacher_hidden,
                                    const Tensor& teacher_head, const Tensor& labels, const DistillationWeights& weights,
                                    double gradient_scale, const DistillationReport& report, int64_t chunk_rows) {
  check_labels(labels, student_head.dim(0));
  DistillationTerms total;
  // A: the type of logits; G: of their gradient, which is the operands'.
  const auto run = [&]<class A, class G>(A, G) {
    run_head(d_student_hidden, d_student_head, head_mode, student_hidden, student_head, teacher_hidden, teacher_head,
             chunk_rows, [&](Tensor& gradient, const Tensor& student_logits, const Tensor& teacher_logits, int64_t begin) {
               total += rows::distillation_rows<A, G>(
                   gradient.defined() ? gradient.data<G>() : nullptr, student_logits.data<A>(),
                   teacher_logits.defined() ? teacher_logits.data<A>() : nullptr, labels.data<int32_t>() + begin,
                   student_logits.dim(0), student_logits.dim(1), weights, gradient_scale, report);
             });
  };
  const DType dtype = student_hidden.dtype();
  if (dtype == DType::f64)
    run(double{}, double{});
  else if (dtype == DType::bf16)
    run(float{}, bfloat16{});
  else
    run(float{}, float{});
  return total;
}

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
  ECHO_CHECK(labels.device() == student_hidden.device(), "distillation_head: labels on ", labels.device(),
             ", hidden states on ", student_hidden.device());
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
  ECHO_DISPATCH_DEVICE_VALUE(student_hidden, distillation_head, d_student_hidden, d_student_head, head_mode, student_hidden,
                             student_head, teacher_hidden, teacher_head, labels, weights, gradient_scale, report, chunk_rows);
}

}  // namespace echo::kernels
