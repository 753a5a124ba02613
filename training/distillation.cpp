#include "training/distillation.h"

#include "autograd/gradient_target.h"
#include "autograd/no_grad.h"
#include "autograd/tape.h"
#include "data/batch_tensors.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

Tensor as_rows(const Tensor& x) { return x.reshape({x.elements() / x.dim(-1), x.dim(-1)}); }

}  // namespace

LossSettings stage_loss(const settings::Distillation& distillation) {
  LossSettings loss;
  loss.head.kl = distillation.kl_weight;
  loss.head.hard_label = distillation.hard_label_weight;
  loss.head.true_label = distillation.true_label_weight;
  loss.head.temperature = distillation.temperature;
  switch (distillation.kl_direction) {
    case settings::KlDirection::student_teacher:
      loss.head.direction = kernels::KlDirection::student_teacher;
      break;
    case settings::KlDirection::teacher_student:
      loss.head.direction = kernels::KlDirection::teacher_student;
      break;
    case settings::KlDirection::jensen_shannon:
      loss.head.direction = kernels::KlDirection::jensen_shannon;
      break;
  }
  loss.hidden_weight = distillation.hidden_weight;
  if (distillation.intermediate_normalization == settings::IntermediateNormalization::teacher_power)
    loss.hidden_normalization = kernels::HiddenNormalization::teacher_power;
  return loss;
}

LossSettings true_label_loss() {
  LossSettings loss;
  loss.head.kl = 0;
  loss.head.hard_label = 0;
  loss.head.true_label = 1;
  return loss;
}

LossSums& LossSums::operator+=(const LossSums& other) {
  head += other.head;
  hidden += other.hidden;
  loss += other.loss;
  tokens += other.tokens;
  return *this;
}

LossSums accumulate_gradients(const LanguageModel& student, const LanguageModel* teacher, const Batch& batch,
                              const LossSettings& settings, const ForwardOptions& options, int64_t global_tokens) {
  ECHO_CHECK(teacher != nullptr || !settings.needs_teacher(), "distillation: this loss needs a teacher, but there is none");
  const MemoryLabel label("activations");
  const BatchTensors tensors = to_tensors(batch, student.device());
  const bool with_teacher = settings.needs_teacher();
  ForwardOptions forward = options;
  forward.first_key = tensors.first_key;
  const bool with_hidden = with_teacher && settings.hidden_weight != 0;
  forward.wanted_outputs = with_hidden ? student.leader_map().block_ends() : std::vector<int64_t>();

  ForwardResult target;
  if (with_teacher) {
    const NoGrad no_grad;
    ForwardOptions teacher_forward = forward;
    teacher_forward.recompute = false;
    target = teacher->forward(tensors.ids, teacher_forward);
  }
  ForwardResult result = student.forward(tensors.ids, forward);

  // The loss is not on the tape. Each term gives the gradient of the states that it was computed from, and one backward pass
  // starts from all of these.
  const double per_token = 1.0 / double(global_tokens);
  LossSums sums;
  std::vector<std::pair<Variable, Tensor>> roots;
  const double ends = double(result.layer_outputs.size());
  for (size_t i = 0; i < result.layer_outputs.size(); ++i) {
    const Variable& state = result.layer_outputs[i];
    // The gradient overwrites the teacher's state, which is not used afterwards.
    Tensor d_state = target.layer_outputs[i].data();
    const kernels::HiddenError error =
        kernels::hidden_error(d_state, GradientMode::overwrite, state.data(), target.layer_outputs[i].data(), tensors.labels,
                              settings.hidden_normalization, settings.hidden_weight / ends * per_token);
    sums.hidden.raw += error.raw / ends;
    sums.hidden.relative += error.relative / ends;
    sums.hidden.rows = error.rows;
    roots.emplace_back(state, d_state);
  }

  const Tensor hidden = as_rows(result.hidden.data());
  const Variable& head = student.head_weight();
  Tensor d_hidden = Tensor::empty_like(hidden);
  GradientTarget d_head(head);
  const Tensor teacher_hidden = with_teacher ? as_rows(target.hidden.data()) : Tensor();
  const Tensor teacher_head = with_teacher ? teacher->head_weight().data_as(teacher_hidden.dtype()) : Tensor();
  sums.head = kernels::distillation_head(d_hidden, d_head.tensor(), d_head.mode(), hidden, head.data_as(hidden.dtype()),
                                         teacher_hidden, teacher_head, tensors.labels, settings.head, per_token);
  roots.emplace_back(result.hidden, d_hidden.reshape(result.hidden.shape()));
  roots.emplace_back(head, Tensor());  // its gradient is in place, but the pass must call its hook

  sums.tokens = sums.head.rows;
  const double hidden_error =
      settings.hidden_normalization == kernels::HiddenNormalization::none ? sums.hidden.raw : sums.hidden.relative;
  sums.loss = kernels::weighted_loss(sums.head, settings.head) + settings.hidden_weight * hidden_error;
  result = {};
  target = {};
  backward(std::move(roots));
  return sums;
}

}  // namespace echo
