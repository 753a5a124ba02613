#pragma once

#include "kernels/gradient_mode.h"
#include "kernels/losses/loss_term.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// Which way the divergence between the distributions s (student) and t (teacher) is taken. m = (s + t) / 2.
enum class KlDirection {
  student_teacher,  // KL(s || t) = sum s (log s - log t)
  teacher_student,  // KL(t || s)
  jensen_shannon,   // KL(s || m) / 2 + KL(t || m) / 2
};

// The loss of a token is  kl * K + hard_label * H + true_label * C  with
//   K = temperature^2 * divergence of softmax(logits / temperature), so that its gradient keeps its size at any
//       temperature;
//   H = cross-entropy of the student against the teacher's most likely token;
//   C = the same against the token that follows.
struct DistillationWeights {
  double kl = 0.25;
  double hard_label = 0.5;
  double true_label = 0;
  KlDirection direction = KlDirection::student_teacher;
  double temperature = 1;
};

// Sums over the rows that count (divide by the global number of tokens for means), in nats. All but `kl` are at
// temperature 1, and those that need a teacher are 0 without one.
struct DistillationTerms {
  double kl = 0;  // K of the trained direction: what `weights.kl` multiplies; 0 when that weight is 0
  double kl_student_teacher = 0;
  double kl_teacher_student = 0;
  double hard_label = 0;
  double true_label = 0;
  int64_t rows = 0;        // rows that count
  int64_t agreements = 0;  // student and teacher have the same most likely token
  int64_t correct = 0;     // the student's most likely token is the true one

  // The list of the terms (kernels/losses/loss_term.h).
  template <class Field>
  static constexpr void visit(Field&& field) {
    using Terms = DistillationTerms;
    field(LossTerm{"true_label", "true_label"}, &Terms::true_label);
    field(LossTerm{"kl", "kl", Computed::with_kl_weight}, &Terms::kl);
    field(LossTerm{"kl_student_teacher", "kl_student_teacher", Computed::with_teacher}, &Terms::kl_student_teacher);
    field(LossTerm{"kl_teacher_student", "kl_teacher_student", Computed::with_teacher}, &Terms::kl_teacher_student);
    field(LossTerm{"hard_label", "hard_label", Computed::with_teacher}, &Terms::hard_label);
    field(LossTerm{"rows", nullptr}, &Terms::rows);
    field(LossTerm{"agreements", "agreement", Computed::with_teacher}, &Terms::agreements);
    field(LossTerm{"correct", "accuracy"}, &Terms::correct);
  }
  DistillationTerms& operator+=(const DistillationTerms& other) {
    add_terms(*this, other);
    return *this;
  }
};
static_assert(sizeof(DistillationTerms) == count_terms<DistillationTerms>() * sizeof(double), "visit() leaves a member out");

// The weighted sum that is trained on.
double weighted_loss(const DistillationTerms& terms, const DistillationWeights& weights);

// Head and loss in one: logits = hidden * head^T of student and teacher, the terms, and the gradient of
//   gradient_scale * sum over rows of (kl * K + hard_label * H + true_label * C)
// with respect to the student's hidden states and head. Rows are taken `chunk_rows` at a time (0: as many as fit
// kHeadScratch bytes, kGpuHeadScratch on a GPU), so that no tensor of N x V exists; inside a chunk one fused pass per row goes
// from logits to their gradient in log space.
//   d_student_hidden: (N, D), the dtype of student_hidden, overwritten; undefined: not wanted.
//   d_student_head:   (V, D), f32 (f64 for f64), overwritten or added to as head_mode says; undefined: not wanted.
//   student_hidden: (N, D), student_head: (V, D), of one dtype. teacher_hidden: (N, Dt), teacher_head: (V, Dt),
//   likewise; f64 goes with f64 only. Both undefined: no teacher, and weights.kl and weights.hard_label must be 0.
//   labels: (N) i32, the token that follows; rows with -1 are padding: they count in no term and their gradient is 0.
// Logits and row arithmetic are f32 (f64 for f64), sums over rows f64; for bf16 operands the logits' gradient is
// rounded to bf16 before the two products. Contiguous, but hidden states may be strided over rows.
// A row with a logit that is not finite makes every sum NaN (and its gradient), so that a caller sees it in the loss.
// Results depend on chunk_rows only by the order of sums.
// Throws Error when shapes, dtypes or devices do not fit, a label is not in [-1, V), or temperature is not positive. On a GPU,
// whose labels the host does not read, a label outside makes the sums and the row's gradient NaN.
DistillationTerms distillation_head(Tensor& d_student_hidden, Tensor& d_student_head, GradientMode head_mode,
                                    const Tensor& student_hidden, const Tensor& student_head, const Tensor& teacher_hidden,
                                    const Tensor& teacher_head, const Tensor& labels, const DistillationWeights& weights,
                                    double gradient_scale, int64_t chunk_rows = 0);

// Bytes of logits and their gradients that a chunk may hold when chunk_rows is 0 (one row at the least; on a GPU 128, since
// products of fewer rows wait for the heads to be read).
inline constexpr int64_t kHeadScratch = int64_t{60} << 20;
inline constexpr int64_t kGpuHeadScratch = 148'000'000;

}  // namespace echo::kernels
