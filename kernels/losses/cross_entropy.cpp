#include "kernels/losses/cross_entropy.h"

#include "kernels/dispatch.h"
#include "kernels/losses/distillation_rows.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace {

CrossEntropyTerms checked_cross_entropy(Tensor gradient, const Tensor& logits, const Tensor& labels, double gradient_scale) {
  check_operands("cross_entropy", logits.shape(), {&logits});
  ECHO_CHECK(logits.rank() >= 1 && logits.dim(-1) > 0 && (logits.dtype() == DType::f32 || logits.dtype() == DType::f64),
             "cross_entropy: logits ", logits, ", expected f32 or f64 (..., V)");
  const int64_t vocabulary = logits.dim(-1), rows = logits.elements() / vocabulary;
  ECHO_CHECK(labels.defined() && labels.dtype() == DType::i32 && labels.is_contiguous() && labels.elements() == rows &&
                 labels.device() == logits.device(),
             "cross_entropy: labels ", labels, " for logits ", logits, ", expected one i32 a row");
  const Shape flat{rows, vocabulary};
  if (gradient.defined()) gradient = gradient.reshape(flat);
  ECHO_DISPATCH_DEVICE_VALUE(logits, cross_entropy, gradient, logits.reshape(flat), labels.reshape({rows}), gradient_scale);
}

}  // namespace

namespace cpu {

CrossEntropyTerms cross_entropy(Tensor& gradient, const Tensor& logits, const Tensor& labels, double gradient_scale) {
  const int64_t rows = logits.dim(0), vocabulary = logits.dim(1);
  const int32_t* label_values = labels.data<int32_t>();
  for (int64_t i = 0; i < rows; ++i)
    ECHO_CHECK(label_values[i] >= -1 && label_values[i] < vocabulary, "cross_entropy: label ", label_values[i], " in row ", i,
               ", expected -1 to ", vocabulary - 1);
  const auto run = [&]<class A>(const A* values) {
    return from_distillation(rows::distillation_rows<A, A>(gradient.defined() ? gradient.data<A>() : nullptr, values, nullptr,
                                                           label_values, rows, vocabulary, kTrueLabelOnly, gradient_scale, {}));
  };
  return logits.dtype() == DType::f64 ? run(logits.data<double>()) : run(logits.data<float>());
}

}  // namespace cpu

CrossEntropyTerms cross_entropy(const Tensor& logits, const Tensor& labels) {
  return checked_cross_entropy({}, logits, labels, 0);
}

CrossEntropyTerms cross_entropy_with_gradient(Tensor& logits, const Tensor& labels, double gradient_scale) {
  return checked_cross_entropy(logits, logits, labels, gradient_scale);
}

CrossEntropyTerms cross_entropy_head(Tensor& d_hidden, Tensor& d_head, GradientMode head_mode, const Tensor& hidden,
                                     const Tensor& head, const Tensor& labels, double gradient_scale, int64_t chunk_rows) {
  return from_distillation(distillation_head(d_hidden, d_head, head_mode, hidden, head, {}, {}, labels, kTrueLabelOnly,
                                             gradient_scale, {}, chunk_rows));
}

}  // namespace echo::kernels
