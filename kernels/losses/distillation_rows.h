#pragma once

#include "kernels/losses/distillation_terms.h"
#include "tensor/tensor.h"

// The losses of logits: the part of distillation_head and cross_entropy that is not a matrix product.
namespace echo::kernels {

// The terms of the rows of a call. On a CPU they are added up chunk by chunk. On a GPU they stay on the device until total(),
// so that the host waits only once per call.
struct RowTerms {
  RowTerms(int64_t rows, Device device);
  Device device() const { return of_rows.defined() ? of_rows.device() : Device{}; }

  DistillationTerms sums;  // on a CPU
  Tensor of_rows;          // on a GPU: (terms in the order of DistillationTerms::visit, rows) f32
};

// Computes the terms of a chunk of logits, and the gradient with respect to the student's logits if `gradient` is defined.
//   terms: row i of the chunk is row first_row + i of the call.
//   gradient: (rows, V) f32 or bf16, or f64 for f64 logits. It may be student_logits itself, and must not overlap anything
//   else.
//   Undefined: not computed.
//   student_logits, teacher_logits (undefined: no teacher): (rows, V) f32, or f64 on a CPU. The elements of a row are adjacent.
//   On a CPU the rows are adjacent too. On a GPU they may have any stride.
//   labels: (rows) i32 in [-1, V). Rows with -1 do not count, and their gradient is 0. On a GPU a row with a label out of range
//   is treated like a row with a logit that is not finite.
// Throws Error for f64 logits, or more than 2^30 logits per row, on a GPU. The caller checks all other arguments.
void distillation_rows(RowTerms& terms, int64_t first_row, Tensor& gradient, const Tensor& student_logits,
                       const Tensor& teacher_logits, const Tensor& labels, const DistillationWeights& weights,
                       double gradient_scale);

// The sums over all rows. On a GPU they are computed in f64 in a fixed order, and the call waits for the device.
DistillationTerms total(const RowTerms& terms);

// Throws Error when a label is not in [-1, vocabulary); the message begins with `operation`. Does nothing for labels on a GPU.
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
