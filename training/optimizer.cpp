#include "training/optimizer.h"

#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/gradient_norm.h"
#include "tensor/allocator.h"

namespace echo {

AdamW::AdamW(Module& module, const OptimizerSettings& settings) : parameters_(module.parameters()), settings_(settings) {}

double AdamW::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const Parameter* parameter : parameters_) gradients.push_back(parameter->variable.gradient());
  return kernels::gradient_norm(gradients);
}

void AdamW::step(double learning_rate, double norm) {
  make_moments();
  std::vector<kernels::AdamWSpan> spans;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Variable& variable = parameters_[i]->variable;
    if (!variable.gradient().defined()) continue;
    const bool is_matrix = variable.data().rank() == 2;
    spans.push_back({variable.data(), variable.gradient(), first_moments_[i], second_moments_[i],
                     is_matrix ? settings_.weight_decay : 0.0, variable.compute_copy()});
  }
  kernels::adamw(spans, {.learning_rate = learning_rate,
                         .beta1 = settings_.beta1,
                         .beta2 = settings_.beta2,
                         .epsilon = settings_.epsilon,
                         .step = ++steps_,
                         .gradient_scale = kernels::clip_coefficient(norm, settings_.max_grad_norm)});
}

void AdamW::clear_gradients() {
  for (Parameter* parameter : parameters_) parameter->variable.clear_gradient();
}

void AdamW::make_moments() {
  if (!first_moments_.empty()) return;
  const MemoryLabel label("optimizer moments");
  for (const Parameter* parameter : parameters_) {
    first_moments_.push_back(Tensor::zeros_like(parameter->variable.data()));
    second_moments_.push_back(Tensor::zeros_like(parameter->variable.data()));
  }
}

NamedTensors AdamW::state() const {
  NamedTensors tensors;
  for (size_t i = 0; i < first_moments_.size(); ++i) {
    for (const NamedTensor& part : parts_of(*parameters_[i], first_moments_[i]))
      tensors.emplace_back(part.name + ".first_moment", part.tensor);
    for (const NamedTensor& part : parts_of(*parameters_[i], second_moments_[i]))
      tensors.emplace_back(part.name + ".second_moment", part.tensor);
  }
  return tensors;
}

void AdamW::restore(const TensorSource& source, int64_t steps) {
  steps_ = steps;
  if (steps == 0) return;
  make_moments();
  for (auto& [name, tensor] : state()) source.read_into(name, tensor);
}

}  // namespace echo
