#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "training/run_recorder.h"

namespace echo {

// How a run shows itself to whoever started it. Each may be empty.
struct RunDisplay {
  std::function<void(const std::string& line)> print;
  std::function<void(int64_t step, int64_t total_steps)> progress;
};

// The folder of a run, and the recorder that writes it: config.yaml, trainer_log.jsonl, checkpoint-<step>/, stage1/ (the model
// after stage 1 when another follows), final/, report.html.
class RunFolder : public RunRecorder {
 public:
  // Makes config.output_dir and holds its lock. Throws Error: usage (64) when another process holds it, io (74).
  explicit RunFolder(const TrainConfig& config, RunDisplay display = {});

  // Where to resume, by config.resume_from_checkpoint; empty: start from the beginning. Throws Error: usage (64) when that
  // would mix two runs, input_missing (66) or bad_data (65) for a named checkpoint that is missing or damaged.
  std::optional<std::filesystem::path> checkpoint_to_resume() const;

  // All throw Error (io) when writing fails; older checkpoints stay whole.
  void begin(const TrainingRun& run, const TrainingState& state, bool resumed) override;
  void step_done(const TrainingState& state) override;
  void log_step(const TrainingState& state, const LossSettings& loss, const StepResult& last_step,
                const WindowTimes& times) override;
  void log_skip(const TrainingState& state, const StepResult& result) override;
  void evaluate(const TrainingState& state, const char* when) override;
  void save(const TrainingState& state, const AdamW& optimizer) override;
  void save_stage(const TrainingStage& stage) override;
  void finish() override;
  std::optional<std::filesystem::path> last_checkpoint() const override;

 private:
  const TrainingRun& run() const { return *run_; }
  int stage_number(const TrainingState& state) const;  // 0 when all stages are done
  void log_evaluation(const TrainingState& state, const char* when, const char* model, const EvaluationResult& result,
                      bool with_teacher);
  void print(const std::string& line) const;

  TrainConfig config_;
  RunDisplay display_;
  std::filesystem::path path_;
  std::vector<TrainingStage> stages_;
  int64_t total_steps_;
  FileLock lock_;
  const TrainingRun* run_ = nullptr;  // from begin() on, as the following
  std::unique_ptr<TrainingLog> log_;
  std::vector<Batch> held_out_;
};

}  // namespace echo
