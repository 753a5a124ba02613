#pragma once

#include <functional>
#include <memory>

#include "config/check.h"
#include "training/run_setup.h"
#include "training/training_checkpoint.h"

namespace echo {

// What the trainer tells whoever started it. Each may be empty.
struct TrainerCallbacks {
  std::function<void(const std::string& line)> print;
  std::function<void(int64_t step, int64_t total_steps)> progress;
  std::function<bool()> stop_requested;                                 // asked after every step
  std::function<void(const std::filesystem::path& output_dir)> report;  // writes the report, at the end
};

// Runs the stages of a configuration: batches, loss, optimizer, log, evaluation, checkpoints. Same settings, same seed and
// same number of threads give the same bits, also across stops and resumes.
// Output folder: config.yaml, trainer_log.jsonl, checkpoint-<step>/, stage1/ (the model after stage 1 when another follows),
// final/, report.html.
class Trainer {
 public:
  Trainer(TrainingRun& run, TrainerCallbacks callbacks);
  ~Trainer();

  // Continues from a verified checkpoint folder; run.student was loaded from it.
  void resume(const std::filesystem::path& checkpoint);

  // Trains to the end. Throws Error: interrupted (75) after stop_requested, with a checkpoint saved; numerical (76) after three
  // losses in a row that were not finite, naming the batch's position; io (74) when saving failed, older checkpoints intact;
  // device (71) when memory ran out or the GPU failed, naming the newest checkpoint.
  void train();

  // One step without any effect on files, and what memory it took. Returns the table as text.
  std::string dry_run();

  const TrainingState& state() const { return state_; }
  int64_t total_steps() const;

 private:
  struct StepResult {
    LossSums sums;
    double norm = 0, learning_rate = 0;
    bool finite = false;
  };

  void run_stages();
  StepResult train_step(const TrainingStage& stage, const LossSettings& loss);
  void after_step(const TrainingStage& stage, const LossSettings& loss, const StepResult& result);
  void log_step(const TrainingStage& stage, const LossSettings& loss, const StepResult& result);
  void log_skip(const TrainingStage& stage, const StepResult& result);
  void evaluate_models(const char* when, bool with_teacher_alone);
  void save();
  void finish_stage(size_t stage_index);
  void print(const std::string& line) const;

  TrainingRun& run_;
  TrainerCallbacks callbacks_;
  std::filesystem::path output_dir_;
  std::vector<TrainingStage> stages_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<DataLoader> loader_;
  std::unique_ptr<TrainingLog> log_;
  std::vector<Batch> held_out_;
  TrainingState state_;
  int64_t saved_step_ = -1;
  // Since the last line of the log.
  double window_seconds_ = 0, window_wait_ = 0;
};

}  // namespace echo
