#pragma once

#include "kernels/losses/distillation_loss.h"
#include "tensor/tensor.h"

namespace echo::kernels::rows {

// Turns a chunk of logits into terms, and into the gradient with respect to the student's logits where `gradient` is
// not null.
// gradient: (rows, V) f32, bf16 or f64; may be student_logits itself, or else overlaps nothing. student_logits,
// teacher_logits (null: no teacher): (rows, V). labels: (rows), in [-1, V). Rows of the gradient that do not count are
// 0.
// Instantiated for <float, float>, <float, bfloat16> and <double, double>.
template <class A, class G>
DistillationTerms distillation_rows(G* gradient, const A* student_logits, const A* teacher_logits, const int32_t* labels,
                                    int64_t rows, int64_t vocabulary, const DistillationWeights& weights, double gradient_scale,
                                    const DistillationReport& report);

}  // namespace echo::kernels::rows

namespace echo::kernels::cuda {

// The same on a GPU, where a row's terms stay until the call's last chunk is done, so that the host waits once.
//   terms: (kRowTerms, N) f32; those of row i of the chunk go to column first_row + i.
//   gradient: (rows, V) f32 or bf16; may be student_logits itself; undefined: not wanted. student_logits, teacher_logits
//   (undefined: no teacher): (rows, V) f32. Rows of these at any distance, elements adjacent. labels: (rows) i32; a row whose
//   label is not in [-1, V) is treated as one with a logit that is not finite.
void distillation_rows(Tensor& terms, int64_t first_row, Tensor& gradient, const Tensor& student_logits,
                       const Tensor& teacher_logits, const Tensor& labels, const DistillationWeights& weights,
                       double gradient_scale, const DistillationReport& report);

inline constexpr int kRowTerms = 9;  // the members of DistillationTerms

// Adds the columns up in f64, in a fixed order. Waits for the device.
DistillationTerms total_of_rows(const Tensor& terms);

}  // namespace echo::kernels::cuda
