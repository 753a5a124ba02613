#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// Sums over the rows that count (divide by the global number of tokens for means), in nats.
struct CrossEntropyTerms {
  double loss = 0;      // sum of log sum_v exp(logit_v) - logit_label
  int64_t rows = 0;     // rows that count
  int64_t correct = 0;  // the largest logit (the first of equal ones) is the label's
};

// Cross-entropy of logits.
//   logits: (..., V), contiguous, f32 or f64 (on a GPU f32 only).
//   labels: one i32 per row, on the same device. Rows with -1 are padding and count nowhere.
// A row with a logit that is not finite makes the loss (and its gradient) NaN.
// Throws Error when shapes, dtypes or devices do not fit, or when a label on a CPU is not in [-1, V). On a GPU such a label
// makes loss and gradient NaN. Waits for the GPU.
CrossEntropyTerms cross_entropy(const Tensor& logits, const Tensor& labels);

// As cross_entropy(). Replaces the logits by gradient_scale * (softmax(logits) - one_hot(label)), which is 0 in padding rows.
CrossEntropyTerms cross_entropy_with_gradient(Tensor& logits, const Tensor& labels, double gradient_scale);

}  // namespace echo::kernels
