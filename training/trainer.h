#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "config/check.h"
#include "training/gradient_buckets.h"
#include "training/layer_shards.h"
#include "training/parameter_buckets.h"
#include "training/run_recorder.h"

namespace echo {

// Runs the stages of a configuration: batches, loss, gradients, optimizer steps. The recorder writes files and prints. With the
// same settings, seed, number of threads and ranks the bits are the same, also across stops and resumes.
// Each rank of run.communicator has its own trainer, and all of them take the same steps. A rank computes the gradient of its
// rows. The sum over the ranks, and so the weights, are the same on all of them. Only the first rank needs a recorder that
// does something.
class Trainer {
 public:
  // `run` and `recorder` must outlive the trainer. stop_requested is called after every step, and while a step waits for its
  // data; it may be empty. If it returns true on one rank, all ranks stop. Copies the student's weights from the first rank to
  // all.
  Trainer(TrainingRun& run, RunRecorder& recorder, std::function<bool()> stop_requested = {});

  // Continues from a verified checkpoint folder, from which run.student was loaded. Throws Error (bad_data, config) when the
  // checkpoint does not fit the run.
  void resume(const std::filesystem::path& checkpoint);

  // Trains to the end. Throws Error: interrupted (75) after stop_requested, with a checkpoint saved; numerical (76) after three
  // steps in a row with a loss or gradient that is not finite, with the position of the batch; io (74) when saving failed, with
  // older checkpoints intact; device (71) when memory ran out or the GPU failed, with the newest checkpoint.
  void train();

  // Runs one step and measures its memory. Records nothing. Returns the table as text.
  std::string dry_run();

  const TrainingState& state() const { return state_; }
  int64_t total_steps() const { return steps_of(stages_); }

 private:
  std::unique_ptr<AdamW> fresh_optimizer() const;
  void run_stages();
  [[noreturn]] void stop();
  bool stop_requested_somewhere();
  std::optional<StepResult> train_step(const TrainingStage& stage, const LossSettings& loss);
  std::vector<Batch> next_batches();
  double seconds_communicated() const;
  void with_teacher(const std::function<void()>& record);
  void count(const StepResult& result);
  void after_step(const TrainingStage& stage, const LossSettings& loss, const StepResult& result);
  void finish_stage(const TrainingStage& stage);
  void check_same_position();
  void save();

  TrainingRun& run_;
  RunRecorder& recorder_;
  std::function<bool()> stop_requested_;
  std::vector<TrainingStage> stages_;
  std::unique_ptr<GradientBuckets> buckets_;      // null with one rank
  std::unique_ptr<ParameterBuckets> parameters_;  // null unless the optimizer is sharded
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<LayerShards> teacher_shards_;  // null unless the teacher is sharded
  std::unique_ptr<DataLoader> loader_;
  TrainingState state_;
  int64_t saved_step_ = -1;  // of the last checkpoint; negative: no checkpoint is from this point of the run
  size_t logged_skips_ = 0;  // skipped files that the log has
  WindowTimes window_times_;
};

}  // namespace echo
