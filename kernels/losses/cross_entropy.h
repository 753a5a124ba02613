#pragma once

#include "kernels/gradient_mode.h"
#include "kernels/losses/distillation_loss.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// Sums over the rows that count (divide by the global number of tokens for means), in nats.
struct CrossEntropyTerms {
  double loss = 0;      // sum of log sum_v exp(logit_v) - logit_label
  int64_t rows = 0;     // rows that count
  int64_t correct = 0;  // the largest logit (the first of equal ones) is the label's

  CrossEntropyTerms& operator+=(const CrossEntropyTerms& other) {
    loss += other.loss;
    rows += other.rows;
    correct += other.correct;
    return *this;
  }
};

// Cross-entropy is the distillation loss without a teacher.
inline constexpr DistillationWeights kTrueLabelOnly{.kl = 0, .hard_label = 0, .true_label = 1};
inline CrossEntropyTerms from_distillation(const DistillationTerms& terms) {
  return {terms.true_label, terms.rows, terms.correct};
}

// From logits. logits: (..., V) f32 or f64, contiguous; labels: one i32 per row, rows with -1 are padding and count
// nowhere.
// A row with a logit that is not finite makes the loss (and its gradient) NaN.
// Throws Error when shapes, dtypes or devices do not fit, or a label is not in [-1, V); on a GPU such a label makes loss and
// gradient NaN.
CrossEntropyTerms cross_entropy(const Tensor& logits, const Tensor& labels);

// The same, and replaces the logits by gradient_scale * (softmax(logits) - one_hot(label)), 0 in padding.
CrossEntropyTerms cross_entropy_with_gradient(Tensor& logits, const Tensor& labels, double gradient_scale);

// From hidden states and the head, in chunks of rows: distillation_head (see there for shapes and dtypes) with true
// labels only.
CrossEntropyTerms cross_entropy_head(Tensor& d_hidden, Tensor& d_head, GradientMode head_mode, const Tensor& hidden,
                                     const Tensor& head, const Tensor& labels, double gradient_scale, int64_t chunk_rows = 0);

// gradient: the logits themselves, or undefined. logits: (N, V); labels: (N).
namespace cpu {
CrossEntropyTerms cross_entropy(Tensor& gradient, const Tensor& logits, const Tensor& labels, double gradient_scale);
}  // namespace cpu
namespace cuda {
CrossEntropyTerms cross_entropy(Tensor& gradient, const Tensor& logits, const Tensor& labels, double gradient_scale);
}  // namespace cuda

}  // namespace echo::kernels
