#include "kernels/losses/distillation_loss.h"

#include "kernels/losses/distillation_rows.h"
#include "kernels/losses/head_chunks.h"
#include "kernels/matmul/matmul.h"
#include "tensor/allocator.h"

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

// The head and its loss, on any device. row_losses(gradient, student_logits, teacher_logits, begin) takes the logits of a chunk
// whose first row is `begin`. It stores their terms, and writes their gradient if `gradient` is defined. `gradient` may be the
// memory of the student's logits.
template <class RowLosses>
void run_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode, const Tensor& student_hidden,
              const Tensor& student_head, const Tensor& teacher_hidden, const Tensor& teacher_head, int64_t chunk_rows,
              RowLosses row_losses) {
  const int64_t rows = student_hidden.dim(0), vocabulary = student_head.dim(0);
  const DType dtype = student_hidden.dtype(), logit_dtype = accumulator_dtype(dtype);
  const Device device = student_hidden.device();
  const bool with_teacher = teacher_hidden.defined(), with_gradient = d_student_hidden.defined() || d_student_head.defined();
  const HeadChunks chunks = head_chunks(student_hidden, vocabulary, with_teacher, with_gradient, chunk_rows);
  const int64_t gradient_rows = chunks.chunk_rows * chunks.chunks_per_gradient;
  const auto scratch = [&](int64_t scratch_rows, DType of) {
    const MemoryLabel label("head scratch");
    return Tensor::empty({std::min(scratch_rows, rows), chunks.row_stride}, of, device).narrow(1, 0, vocabulary);
  };
  const Tensor student_scratch = scratch(chunks.chunk_rows, logit_dtype);                            // (chunk, V)
  const Tensor teacher_scratch = with_teacher ? scratch(chunks.chunk_rows, logit_dtype) : Tensor();  // (chunk, V)
  Tensor gradient_scratch;                                                                           // (chunks, V)
  if (with_gradient) gradient_scratch = dtype == logit_dtype ? student_scratch : scratch(gradient_rows, dtype);

  for (int64_t gradient_begin = 0; gradient_begin < rows; gradient_begin += gradient_rows) {
    const int64_t gradient_end = std::min(gradient_begin + gradient_rows, rows);
    for (int64_t begin = gradient_begin; begin < gradient_end; begin += chunks.chunk_rows) {
      const int64_t count = std::min(chunks.chunk_rows, gradient_end - begin);
      Tensor student_logits = student_scratch.narrow(0, 0, count), teacher_logits, gradient;
      matmul(student_logits, student_hidden.narrow(0, begin, count), Transpose::no, student_head, Transpose::yes);
      if (with_teacher) {
        teacher_logits = teacher_scratch.narrow(0, 0, count);
        matmul(teacher_logits, teacher_hidden.narrow(0, begin, count), Transpose::no, teacher_head, Transpose::yes);
      }
      if (with_gradient) gradient = gradient_scratch.narrow(0, begin - gradient_begin, count);
      row_losses(gradient, student_logits, teacher_logits, begin);
    }
    if (!with_gradient) continue;
    const int64_t count = gradient_end - gradient_begin;
    const Tensor d_logits = gradient_scratch.narrow(0, 0, count);
    if (d_student_hidden.defined()) {
      Tensor d_hidden = d_student_hidden.narrow(0, gradient_begin, count);
      matmul(d_hidden, d_logits, Transpose::no, student_head, Transpose::no);
    }
    if (d_student_head.defined())
      matmul(d_student_head, d_logits, Transpose::yes, student_hidden.narrow(0, gradient_begin, count), Transpose::no,
             gradient_begin == 0 ? head_mode : GradientMode::accumulate);
  }
  if (rows == 0 && d_student_head.defined() && head_mode == GradientMode::overwrite) d_student_head.fill_zero();
}

}  // namespace

DistillationTerms distillation_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode,
                                    const Tensor& student_hidden, const Tensor& student_head, const Tensor& teacher_hidden,
                                    const Tensor& teacher_head, const Tensor& labels, const DistillationWeights& weights,
                                    double gradient_scale, int64_t chunk_rows) {
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
  check_labels("distillation_head", labels, vocabulary);
  RowTerms terms(rows, student_hidden.device());
  run_head(d_student_hidden, d_student_head, head_mode, student_hidden, student_head, teacher_hidden, teacher_head, chunk_rows,
           [&](Tensor& gradient, const Tensor& student_logits, const Tensor& teacher_logits, int64_t begin) {
             distillation_rows(terms, begin, gradient, student_logits, teacher_logits,
                               labels.narrow(0, begin, student_logits.dim(0)), weights, gradient_scale);
           });
  return total(terms);
}

}  // namespace echo::kernels
