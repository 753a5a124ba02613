#include "kernels/cross_entropy.h"

#include "kernels/distillation_loss.h"
#include "kernels/distillation_rows.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace {

constexpr DistillationWeights kTrueLabelOnly{.kl = 0, .hard_label = 0, .true_label = 1};

CrossEntropyTerms from_distillation(const DistillationTerms& terms) { return {terms.true_label, terms.rows, terms.correct}; }

CrossEntropyTerms checked_cross_entropy(const Tensor& logits, const Tensor& labels, bool with_gradient, double gradient_scale) {
  check_operands("cross_entropy", logits.shape(), {&logits});
  ECHO_CHECK(logits.rank() >= 1 && logits.dim(-1) > 0 && (logits.dtype() == DType::f32 || logits.dtype() == DType::f64),
             "cross_entropy: logits ", logits, ", expected f32 or f64 (..., V)");
  const int64_t vocabulary = logits.dim(-1), rows = logits.elements() / vocabulary;
  ECHO_CHECK(labels.defined() && labels.dtype() == DType::i32 && labels.is_contiguous() && labels.elements() == rows &&
                 labels.device() == logits.device(),
             "cross_entropy: labels ", labels, " for logits ", logits, ", expected one i32 a row");
  require_cpu("cross_entropy", logits);
  const int32_t* label_values = labels.data<int32_t>();
  for (int64_t i = 0; i < rows; ++i)
    ECHO_CHECK(label_values[i] >= -1 && label_values[i] < vocabulary, "cross_entropy: label ", label_values[i], " in row ", i,
               ", expected -1 to ", vocabulary - 1);
  const auto run = [&]<class A>(A* values) {
    return from_distillation(rows::distillation_rows<A, A>(with_gradient ? values : nullptr, values, nullptr, label_values,
                                                           rows, vocabulary, kTrueLabelOnly, gradient_scale, {}));
  };
  return logits.dtype() == DType::f64 ? run(logits.data<double>()) : run(logits.data<float>());
}

}  // namespace

CrossEntropyTerms cross_entropy(const Tensor& logits, const Tensor& labels) {
  return checked_cross_entropy(logits, labels, /*with_gradient=*/false, 0);
}

CrossEntropyTerms cross_entropy_with_gradient(Tensor& logits, const Tensor& labels, double gradient_scale) {
  return checked_cross_entropy(logits, labels, /*with_gradient=*/true, gradient_scale);
}

CrossEntropyTerms cross_entropy_head(Tensor& d_hidden, Tensor& d_head, GradientMode head_mode, const Tensor& hidden,
                                     const Tensor& head, const Tensor& labels, double gradient_scale, int64_t chunk_rows) {
  return from_distillation(distillation_head(d_hidden, d_head, head_mode, hidden, head, {}, {}, labels, kTrueLabelOnly,
                                             gradient_scale, {}, chunk_rows));
}

}  // namespace echo::kernels
