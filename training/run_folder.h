#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "training/checkpoint_saver.h"
#include "training/run_recorder.h"

namespace echo {

// How a run reports to the program that started it. Each function may be empty.
struct RunDisplay {
  std::function<void(const std::string& line)> print;
  std::function<void(int64_t step, int64_t total_steps)> progress;
  int64_t restarts = 0;  // of the job before this start, for the log
};

// The folder of a run, and the recorder that writes to it: config.yaml, data_manifest.json (if data is on other
// machines), trainer_log.jsonl, checkpoint-<step>/, stage1/ (the
// model after stage 1 if another stage follows), final/, report.html.
class RunFolder : public RunRecorder {
 public:
  // Creates config.output_dir and locks it. Throws Error: usage (64) when another process has the lock, io (74).
  explicit RunFolder(const TrainConfig& config, RunDisplay display = {});

  // The checkpoint to resume from, by config.resume_from_checkpoint. Empty: start from the beginning. With `auto`, and after a
  // restart, it is the newest one that is as it was saved. Damaged ones after it are named in a warning, and renamed. Throws
  // Error: usage (64) when that would mix two runs, input_missing (66) when a given checkpoint is missing, bad_data (65) when
  // it or all are damaged.
  std::optional<std::filesystem::path> checkpoint_to_resume() const;

  // All of them throw Error (io) when writing fails. Older checkpoints are not affected.
  void begin(const TrainingRun& run, const TrainingState& state, bool resumed) override;
  void step_done(const TrainingState& state) override;
  void log_step(const TrainingState& state, const LossSettings& loss, const StepResult& last_step,
                const WindowTimes& times) override;
  void log_skip(const TrainingState& state, const StepResult& result) override;
  void log_skipped_files(const TrainingState& state, size_t first) override;
  void evaluate(const TrainingState& state, const char* when) override;
  void save(const TrainingState& state, const AdamW& optimizer) override;
  void finish_saving() override;
  void save_stage(const TrainingStage& stage) override;
  void finish() override;
  std::optional<std::filesystem::path> last_checkpoint() override;

 private:
  const TrainingRun& run() const { return *run_; }
  int stage_number(const TrainingState& state) const;  // 0 when all stages are done
  void log_evaluation(const TrainingState& state, const char* when, const char* model, const EvaluationResult& result,
                      bool with_teacher);
  void keep_manifest() const;
  void print(const std::string& line) const;

  TrainConfig config_;
  RunDisplay display_;
  std::filesystem::path path_;
  FileLock lock_;
  const TrainingRun* run_ = nullptr;  // set by begin(), like the following members
  std::vector<TrainingStage> stages_;
  int64_t total_steps_ = 0;
  std::unique_ptr<TrainingLog> log_;
  std::unique_ptr<CheckpointSaver> saver_;
  double save_stall_ = 0;  // seconds that training waited for saves since the last line of the log
  std::vector<Batch> held_out_;
};

}  // namespace echo
