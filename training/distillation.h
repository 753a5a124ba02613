#pragma once

#include "config/train_config.h"
#include "data/data_loader.h"
#include "kernels/losses/distillation_loss.h"
#include "kernels/losses/hidden_error.h"
#include "nn/language_model.h"

namespace echo {

// The loss of a stage: the weighted sum of the terms of the distillation head and of the hidden error at the block ends.
struct LossSettings {
  kernels::DistillationWeights head;
  double hidden_weight = 0;
  kernels::HiddenNormalization hidden_normalization = kernels::HiddenNormalization::none;

  // True when a term other than the true labels has a weight.
  bool needs_teacher() const { return head.kl != 0 || head.hard_label != 0 || hidden_weight != 0; }
};

LossSettings stage_loss(const settings::Distillation& distillation);  // for stage 1
LossSettings true_label_loss();                                       // for stage 2, pretrain and continue

// Sums over tokens. Divided by `tokens` they are the logged means. They add up over micro-batches and steps.
struct LossSums {
  kernels::DistillationTerms head;
  kernels::HiddenError hidden;  // averaged over the block ends
  double loss = 0;              // weighted sum
  int64_t tokens = 0;           // labels that count

  LossSums& operator+=(const LossSums& other);
};

// Forward and backward pass of one micro-batch. Adds to the student's gradients the gradient of
//   sum over its tokens of the loss / global_tokens
// So any split of a global batch into micro-batches gives the same gradient (checked in tests/training/distillation_test.cpp).
// teacher: may be null when settings.needs_teacher() is false. Its forward pass records nothing. Throws Error when a teacher is
// needed and there is none.
LossSums accumulate_gradients(const LanguageModel& student, const LanguageModel* teacher, const Batch& batch,
                              const LossSettings& settings, const ForwardOptions& options, int64_t global_tokens);

}  // namespace echo
