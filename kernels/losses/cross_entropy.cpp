#include "kernels/losses/cross_entropy.h"

#include "kernels/losses/distillation_rows.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace {

// Cross-entropy is the distillation loss without a teacher.
constexpr DistillationWeights kTrueLabelOnly{.kl = 0, .hard_label = 0, .true_label = 1};

CrossEntropyTerms checked_cross_entropy(Tensor gradient, const Tensor& logits, const Tensor& labels, double gradient_scale) {
  check_operands("cross_entropy", logits.shape(), {&logits});
  ECHO_CHECK(logits.rank() >= 1 && logits.dim(-1) > 0 && (logits.dtype() == DType::f32 || logits.dtype() == DType::f64),
             "cross_entropy: logits ", logits, ", expected f32 or f64 (..., V)");
  const int64_t vocabulary = logits.dim(-1), rows = logits.elements() / vocabulary;
  ECHO_CHECK(labels.defined() && labels.dtype() == DType::i32 && labels.is_contiguous() && labels.elements() == rows &&
                 labels.device() == logits.device(),
             "cross_entropy: labels ", labels, " for logits ", logits, ", expected one i32 per row");
  const Shape flat{rows, vocabulary};
  if (gradient.defined()) gradient = gradient.reshape(flat);
  ECHO_CHECK(logits.device().is_cpu() || logits.dtype() == DType::f32, "cross_entropy: logits ", logits,
             " on a GPU, expected f32");
  check_labels("cross_entropy", labels, vocabulary);
  RowTerms terms(rows, logits.device());
  distillation_rows(terms, 0, gradient, logits.reshape(flat), {}, labels.reshape({rows}), kTrueLabelOnly, gradient_scale);
  const DistillationTerms sums = total(terms);
  return {sums.true_label, sums.rows, sums.correct};
}

}  // namespace

CrossEntropyTerms cross_entropy(const Tensor& logits, const Tensor& labels) {
  return checked_cross_entropy({}, logits, labels, 0);
}

CrossEntropyTerms cross_entropy_with_gradient(Tensor& logits, const Tensor& labels, double gradient_scale) {
  return checked_cross_entropy(logits, logits, labels, gradient_scale);
}

}  // namespace echo::kernels
