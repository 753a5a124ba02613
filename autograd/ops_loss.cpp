#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/cast.h"
#include "kernels/elementwise.h"
#include "kernels/losses/cross_entropy.h"

namespace echo {
namespace {

Tensor scaled(const Tensor& x, double factor) {
  Tensor result = Tensor::empty_like(x);
  kernels::scale(result, x, factor);
  return result;
}

// A loss value as a tensor (1) on the device of `x`.
Tensor scalar(double value, const Tensor& x) { return Tensor::full({1}, value, accumulator_dtype(x.dtype()), x.device()); }

}  // namespace

// The forward pass of these losses also computes their gradient. Backward scales it by the gradient of the loss.

Variable hidden_error(const Variable& student, const Tensor& teacher, const Tensor& labels,
                      kernels::HiddenNormalization normalization) {
  Tensor d_student = student.requires_gradient() ? Tensor::empty_like(student.data()) : Tensor();
  const kernels::HiddenError error =
      kernels::hidden_error(d_student, GradientMode::overwrite, student.data(), teacher, labels, normalization, 1.0);
  const double value = normalization == kernels::HiddenNormalization::none ? error.raw : error.relative;
  return record("hidden_error", {student}, scalar(value, student.data()),
                [d_student](const Tensor& dy) -> Gradients { return {scaled(d_student, dy.item())}; });
}

Variable distillation_loss(const Variable& student_hidden, const Variable& student_head, const Tensor& teacher_hidden,
                           const Tensor& teacher_head, const Tensor& labels, const kernels::DistillationWeights& weights) {
  const Tensor head = kernels::cast(student_head.data(), student_hidden.dtype());
  Tensor d_hidden = student_hidden.requires_gradient() ? Tensor::empty_like(student_hidden.data()) : Tensor();
  Tensor d_head;
  if (student_head.requires_gradient()) d_head = Tensor::empty(head.shape(), accumulator_dtype(head.dtype()), head.device());
  const kernels::DistillationTerms terms =
      kernels::distillation_head(d_hidden, d_head, GradientMode::overwrite, student_hidden.data(), head, teacher_hidden,
                                 teacher_head, labels, weights, 1.0);
  return record("distillation_loss", {student_hidden, student_head},
                scalar(kernels::weighted_loss(terms, weights), student_hidden.data()),
                [d_hidden, d_head,
                 head_dtype = student_head.is_leaf() ? d_head.dtype() : student_head.dtype()](const Tensor& dy) -> Gradients {
                  return {d_hidden.defined() ? scaled(d_hidden, dy.item()) : Tensor(),
                          d_head.defined() ? kernels::cast(scaled(d_head, dy.item()), head_dtype) : Tensor()};
                });
}

Variable cross_entropy(const Variable& logits, const Tensor& labels) {
  // bf16 logits are cast to f32, so that the loss and its gradient are computed in f32.
  const DType dtype = accumulator_dtype(logits.dtype());
  if (!logits.requires_gradient()) {
    const Tensor wide = kernels::cast(logits.data(), dtype);
    return Variable(scalar(kernels::cross_entropy(wide, labels).loss, wide));
  }
  Tensor d_logits = Tensor::empty(logits.shape(), dtype, logits.data().device());
  kernels::cast(d_logits, logits.data());
  const double loss = kernels::cross_entropy_with_gradient(d_logits, labels, 1.0).loss;
  return record("cross_entropy", {logits}, scalar(loss, d_logits),
                [d_logits, dtype = logits.dtype()](const Tensor& dy) -> Gradients {
                  return {kernels::cast(scaled(d_logits, dy.item()), dtype)};
                });
}

}  // namespace echo
