#pragma once

#include "kernels/distillation_loss.h"
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
