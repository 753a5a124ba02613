#pragma once

#include "config/check.h"

namespace echo {

// The learning rate of optimizer step `step` (from 0) of a stage. During warm-up it rises linearly from peak / warmup to peak.
// In the remaining steps the scheduler determines it: cosine (half a period, to 0), linear (to 0) or constant.
double learning_rate_at(const TrainingStage& stage, settings::Scheduler scheduler, int64_t step);

}  // namespace echo
