#pragma once

#include "config/check.h"

namespace echo {

// The learning rate of optimizer step `step` (from 0) of a stage: linear from peak / warmup up to peak in the warm-up steps,
// then as the scheduler says over the remaining steps: cosine (half a period down to 0), linear (down to 0) or constant.
double learning_rate_at(const TrainingStage& stage, settings::Scheduler scheduler, int64_t step);

}  // namespace echo
