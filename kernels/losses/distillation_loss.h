#pragma once

#include "kernels/gradient_mode.h"
#include "kernels/losses/distillation_terms.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// Head and loss in one operation: the logits hidden * head^T of student and teacher, the terms, and the gradient of
//   gradient_scale * sum over rows of (kl * K + hard_label * H + true_label * C)
// with respect to the student's hidden states and head. Rows are taken `chunk_rows` at a time (0: as many as fit the scratch
// bytes of head_chunks.h), so that no tensor of N x V exists; inside a chunk one fused pass per row goes from logits to their
// gradient in log space.
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

}  // namespace echo::kernels
