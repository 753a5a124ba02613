#include "evaluation/evaluation.h"

#include <algorithm>
#include <chrono>

#include "autograd/no_grad.h"
#include "data/batch_tensors.h"
#include "kernels/losses/distillation_loss.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

Tensor final_states(const LanguageModel& model, const BatchTensors& tensors, DType compute_dtype) {
  ForwardOptions options;
  options.compute_dtype = compute_dtype;
  options.first_key = tensors.first_key;
  const Tensor hidden = model.forward(tensors.ids, options).hidden.data();
  return hidden.reshape({hidden.elements() / hidden.dim(-1), hidden.dim(-1)});
}

kernels::DistillationTerms head_terms(const Tensor& hidden, const LanguageModel& model, const Tensor& teacher_hidden,
                                      const LanguageModel* teacher, const Tensor& labels) {
  kernels::DistillationWeights weights;
  weights.kl = teacher != nullptr ? 1 : 0;
  weights.hard_label = 0;
  weights.true_label = 1;
  weights.direction = kernels::KlDirection::teacher_student;
  Tensor none;
  return kernels::distillation_head(
      none, none, GradientMode::overwrite, hidden, model.head_weight().data_as(hidden.dtype()), teacher_hidden,
      teacher != nullptr ? teacher->head_weight().data_as(hidden.dtype()) : Tensor(), labels, weights, 0.0);
}

}  // namespace

EvaluationResult evaluate(const LanguageModel& model, const LanguageModel* teacher, const std::vector<Batch>& batches,
                          DType compute_dtype) {
  const NoGrad no_grad;
  const MemoryLabel label("activations");
  kernels::DistillationTerms terms;
  double speed = 0;
  for (const Batch& batch : batches) {
    const BatchTensors tensors = to_tensors(batch, model.device());
    auto start = Clock::now();
    const Tensor hidden = final_states(model, tensors, compute_dtype);
    double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    // The head is also timed alone, because a comparison with a teacher computes it twice.
    start = Clock::now();
    kernels::DistillationTerms own = head_terms(hidden, model, Tensor(), nullptr, tensors.labels);
    seconds += std::chrono::duration<double>(Clock::now() - start).count();
    // The first batch has cold caches, and any batch may compete with other programs. So the fastest batch describes the model
    // best.
    if (seconds > 0) speed = std::max(speed, double(hidden.dim(0)) / seconds);
    if (teacher != nullptr)
      own = head_terms(hidden, model, final_states(*teacher, tensors, compute_dtype), teacher, tensors.labels);
    terms += own;
  }
  const double tokens = double(std::max<int64_t>(1, terms.rows));
  return {.loss = terms.true_label / tokens,
          .kl_teacher_student = terms.kl_teacher_student / tokens,
          .agreement = double(terms.agreements) / tokens,
          .accuracy = double(terms.correct) / tokens,
          .tokens = terms.rows,
          .tokens_per_second = speed};
}

}  // namespace echo
