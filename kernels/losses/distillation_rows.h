#pragma once

#include "kernels/losses/distillation_terms.h"
#include "tensor/tensor.h"

// The losses of logits: the part of distillation_head and of cross_entropy that is not a product of matrices.
namespace echo::kernels {

// The terms of a call's rows. On a CPU they add up chunk by chunk. On a GPU they stay on the device until total(), so that the
// host waits once per call.
struct RowTerms {
  RowTerms(int64_t rows, Device device);
  Device device() const { return of_rows.defined() ? of_rows.device() : Device{}; }

  DistillationTerms sums;  // on a CPU
  Tensor of_rows;          // on a GPU: (terms in the order of DistillationTerms::visit, rows) f32
};

// Turns a chunk of logits into terms, and into the gradient with respect to the student's logits where `gradient` is defined.
//   terms: those of row i of the chunk count as those of row first_row + i.
//   gradient: (rows, V) f32, bf16 or f64 beside f64 logits; may be student_logits itself, else overlaps nothing; undefined: not
//   wanted. student_logits, teacher_logits (undefined: no teacher): (rows, V) f32 or, on a CPU, f64. Elements of a row are
//   adjacent. On a CPU rows are too; on a GPU they may stand at any distance.
//   labels: (rows) i32 in [-1, V). Rows with -1 do not count, and their gradient is 0. On a GPU a row whose label is out of
//   range is treated as one with a logit that is not finite.
// Throws Error when a GPU is given f64 or more than 2^30 logits per row. The other arguments are the caller's to check.
void distillation_rows(RowTerms& terms, int64_t first_row, Tensor& gradient, const Tensor& student_logits,
                       const Tensor& teacher_logits, const Tensor& labels, const DistillationWeights& weights,
                       double gradient_scale);

// The sums over all rows, on a GPU in f64 and in a fixed order. Waits for the device.
DistillationTerms total(const RowTerms& terms);

// Throws Error, which begins with `operation`, when a label on a CPU is not in [-1, vocabulary). Does not read a GPU's.
void check_labels(const char* operation, const Tensor& labels, int64_t vocabulary);

namespace cpu {
decltype(kernels::distillation_rows) distillation_rows;
decltype(kernels::total) total;
}  // namespace cpu
namespace cuda {
decltype(kernels::distillation_rows) distillation_rows;
decltype(kernels::total) total;
}  // namespace cuda

}  // namespace echo::kernels
