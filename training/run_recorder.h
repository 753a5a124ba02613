#pragma once

#include <filesystem>
#include <optional>

#include "config/check.h"
#include "training/distillation.h"
#include "training/optimizer.h"
#include "training/run_setup.h"
#include "training/training_checkpoint.h"

namespace echo {

struct StepResult {
  LossSums sums;
  double norm = 0;  // of the gradient, before clipping
  double learning_rate = 0;
  bool finite = false;  // loss and norm; otherwise the weights were left as they were
};

// Wall-clock time in steps since the last line of the log.
struct WindowTimes {
  double seconds = 0;
  double waited = 0;  // of those, for data
};

// What exactly one process of a run does: log, evaluate, save, report, print. The trainer calls these functions at the same
// moments in every process. This class does nothing: it serves a dry run, and every process but the first. RunFolder acts.
class RunRecorder {
 public:
  virtual ~RunRecorder() = default;

  // Before the first step, with everything loaded. `run` must outlive the recorder. resumed: `state` comes from a checkpoint.
  virtual void begin(const TrainingRun& /*run*/, const TrainingState& /*state*/, bool /*resumed*/) {}

  virtual void step_done(const TrainingState& /*state*/) {}
  // Means over state.window.
  virtual void log_step(const TrainingState& /*state*/, const LossSettings& /*loss*/, const StepResult& /*last_step*/,
                        const WindowTimes& /*times*/) {}
  virtual void log_skip(const TrainingState& /*state*/, const StepResult& /*result*/) {}
  virtual void evaluate(const TrainingState& /*state*/, const char* /*when*/) {}
  virtual void save(const TrainingState& /*state*/, const AdamW& /*optimizer*/) {}
  // The student as it is after a stage that another one follows.
  virtual void save_stage(const TrainingStage& /*stage*/) {}
  // The finished student, and the report.
  virtual void finish() {}

  // For an error that ends the run.
  virtual std::optional<std::filesystem::path> last_checkpoint() const { return std::nullopt; }
};

}  // namespace echo
