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
  LossSums sums;    // of all ranks
  double norm = 0;  // of the gradient, before clipping
  double learning_rate = 0;
  bool finite = false;  // loss and norm are finite; otherwise the weights were not changed
};

// Wall-clock time of the steps since the last line of the log.
struct WindowTimes {
  double seconds = 0;
  double waited = 0;        // the part of it spent waiting for data
  double communicated = 0;  // the part of it spent waiting for sums over the ranks
};

// What only one process of a run does: log, evaluate, save, report, print. The trainer calls these functions at the same
// moments in every process. This class writes nothing: a dry run uses it, and all processes except the first. RunFolder does
// the work.
class RunRecorder {
 public:
  virtual ~RunRecorder() = default;

  // Called before the first step, when everything is loaded. `run` must outlive the recorder. resumed: `state` is from a
  // checkpoint.
  virtual void begin(const TrainingRun& /*run*/, const TrainingState& /*state*/, bool /*resumed*/) {}

  virtual void step_done(const TrainingState& /*state*/) {}
  // Logs the means over state.window.
  virtual void log_step(const TrainingState& /*state*/, const LossSettings& /*loss*/, const StepResult& /*last_step*/,
                        const WindowTimes& /*times*/) {}
  virtual void log_skip(const TrainingState& /*state*/, const StepResult& /*result*/) {}
  // Files that could not be had: state.cursor.skipped from number `first` on.
  virtual void log_skipped_files(const TrainingState& /*state*/, size_t /*first*/) {}
  virtual void evaluate(const TrainingState& /*state*/, const char* /*when*/) {}
  // May return before the checkpoint is on the disk. Every process has a part in it, because processes may hold slices of the
  // optimizer's state.
  virtual void save(const TrainingState& /*state*/, const AdamW& optimizer) { optimizer.take_part_in_saving(); }
  // Returns when all checkpoints are on the disk.
  virtual void finish_saving() {}
  // Saves the student after a stage that is not the last.
  virtual void save_stage(const TrainingStage& /*stage*/) {}
  // Saves the finished student, and writes the report.
  virtual void finish() {}

  // The newest checkpoint, for the message of an error that ends the run.
  virtual std::optional<std::filesystem::path> last_checkpoint() { return std::nullopt; }
};

}  // namespace echo
