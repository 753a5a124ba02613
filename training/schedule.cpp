#include "training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace echo {

double learning_rate_at(const TrainingStage& stage, settings::Scheduler scheduler, int64_t step) {
  const double peak = stage.learning_rate;
  if (step < stage.warmup_steps) return peak * double(step + 1) / double(stage.warmup_steps);
  const double remaining = double(std::max<int64_t>(1, stage.steps - stage.warmup_steps));
  const double done = std::min(1.0, double(step - stage.warmup_steps) / remaining);
  switch (scheduler) {
    case settings::Scheduler::cosine:
      return peak * 0.5 * (1 + std::cos(std::numbers::pi * done));
    case settings::Scheduler::linear:
      return peak * (1 - done);
    case settings::Scheduler::constant:
      return peak;
  }
  return peak;
}

}  // namespace echo
