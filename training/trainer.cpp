#include "training/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "base/error.h"
#include "config/reading.h"
#include "data/remote_data.h"
#include "tensor/allocator.h"
#include "training/rank_reduction.h"
#include "training/schedule.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMostSkippedInARow = 3;
constexpr int64_t kNoStep = -(int64_t{1} << 44);  // more than the tokens of any step, so that a sum with it is negative

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

LossSettings loss_of(const TrainingStage& stage, const TrainConfig& config) {
  return stage.distillation ? stage_loss(config.distillation) : true_label_loss();
}

ForwardOptions forward_options(const TrainingRun& run) {
  ForwardOptions options;
  options.compute_dtype = run.compute_dtype;
  options.recompute = run.config.gradient_checkpointing;
  options.detach_shared = run.config.student.detach_shared;
  return options;
}

}  // namespace

Trainer::Trainer(TrainingRun& run, RunRecorder& recorder, std::function<bool()> stop_requested)
    : run_(run),
      recorder_(recorder),
      stop_requested_(std::move(stop_requested)),
      stages_(training_stages(run.config, run.communicator->world())) {
  state_.world = run.communicator->world();
  if (run.data.paths.remote) state_.data_pin = run.data.paths.remote->manifest().pin();
  broadcast_parameters(*run.communicator, *run.student);
  if (state_.world > 1)
    buckets_ = std::make_unique<GradientBuckets>(*run.communicator, backward_order(*run.student), bucket_settings(run.config));
  if (buckets_ && run.config.shard_optimizer)
    parameters_ = std::make_unique<ParameterBuckets>(*run.communicator, buckets_->buckets());
  run.student->keep_compute_copies(run.compute_dtype);
  optimizer_ = fresh_optimizer();
  if (state_.world > 1 && run.teacher && run.config.shard_teacher)
    teacher_shards_ = std::make_unique<LayerShards>(*run.communicator, *run.teacher);
}

// Calls `record`, in which only the first rank evaluates. It needs the other ranks for the teacher's layers.
void Trainer::with_teacher(const std::function<void()>& record) {
  if (!teacher_shards_) return record();
  if (run_.communicator->is_first()) {
    teacher_shards_->begin_alone();
    record();
    teacher_shards_->finish_alone();
  } else {
    record();
    teacher_shards_->serve();
  }
}

std::unique_ptr<AdamW> Trainer::fresh_optimizer() const {
  const TrainConfig& config = run_.config;
  const OptimizerSettings settings{.beta1 = config.adam_beta1,
                                   .beta2 = config.adam_beta2,
                                   .epsilon = config.adam_epsilon,
                                   .weight_decay = config.weight_decay,
                                   .max_grad_norm = config.max_grad_norm};
  return parameters_ ? std::make_unique<AdamW>(*run_.student, settings, *parameters_)
                     : std::make_unique<AdamW>(*run_.student, settings);
}

double Trainer::seconds_communicated() const {
  return (buckets_ ? buckets_->seconds_waited() : 0) + (parameters_ ? parameters_->seconds_waited() : 0) +
         (teacher_shards_ ? teacher_shards_->seconds_waited() : 0);
}

void Trainer::resume(const std::filesystem::path& checkpoint) {
  const nlohmann::json manifest = read_manifest(checkpoint);
  const int64_t world = run_.communicator->world();
  const nlohmann::json data_pin = state_.data_pin;
  state_ = state_from_manifest(manifest);
  check_same_run(manifest.at("config"), config_to_json(run_.config), checkpoint, state_.world, world);
  if (state_.data_pin != data_pin)
    fail(ExitCode::config, checkpoint.string(), ": was saved with the data ", state_.data_pin.dump(), "; now it is ",
         data_pin.dump(), "; put the ", kDataManifest, " of that run back into the run's folder");
  state_.world = world;
  logged_skips_ = state_.cursor.skipped.size();
  restore_optimizer(*optimizer_, checkpoint, manifest);
  saved_step_ = state_.step;
}

// When a device fails, everything on it is lost. The error names the newest checkpoint, which the first rank knows.
void Trainer::train() {
  try {
    run_stages();
  } catch (const Error& error) {
    const bool is_lost = error.code() == ExitCode::device || error.code() == ExitCode::unavailable;
    if (!is_lost || !run_.communicator->is_first()) throw;
    const auto checkpoint = recorder_.last_checkpoint();
    fail(error.code(), error.what(), "; ",
         checkpoint ? concat("last checkpoint: ", checkpoint->string(), "; run the same command again to resume")
                    : std::string("no checkpoint was saved"));
  }
}

void Trainer::run_stages() {
  loader_ = std::make_unique<DataLoader>(run_.data, *run_.tokenizer, state_.cursor);
  with_teacher([&] { recorder_.begin(run_, state_, /*resumed=*/saved_step_ >= 0); });
  while (state_.stage_index < int64_t(stages_.size())) {
    const TrainingStage& stage = stages_[size_t(state_.stage_index)];
    const LossSettings loss = loss_of(stage, run_.config);
    while (state_.stage_step < stage.steps) {
      const std::optional<StepResult> result = train_step(stage, loss);
      if (result) after_step(stage, loss, *result);
      if (!result || stop_requested_somewhere()) stop();
    }
    finish_stage(stage);
  }
  recorder_.finish();
}

void Trainer::stop() {
  save();
  recorder_.finish_saving();
  run_.communicator->barrier();  // no rank ends before the first one has saved
  fail(ExitCode::interrupted, "stopped after step ", state_.step, " of ", total_steps(),
       "; checkpoint saved: run the same command again to resume");
}

bool Trainer::stop_requested_somewhere() {
  const bool here = stop_requested_ && stop_requested_();
  return sum_over_ranks(*run_.communicator, int64_t(here)) > 0;
}

// This rank's micro-batches of one optimizer step. All are read first, because each gradient is divided by the number of tokens
// of the whole step. None when this rank should stop and the data is not here yet.
std::vector<Batch> Trainer::next_batches() {
  const int64_t rows = run_.config.per_device_train_batch_size;
  std::vector<Batch> batches;
  for (int64_t i = 0; i < run_.config.gradient_accumulation_steps; ++i) {
    if (!loader_->wait_for_rows(rows, stop_requested_)) return {};
    batches.push_back(loader_->next_batch(rows));
  }
  return batches;
}

// Nothing when a rank should stop while it waits for data: then no rank takes the step.
std::optional<StepResult> Trainer::train_step(const TrainingStage& stage, const LossSettings& loss) {
  const auto start = Clock::now();
  const double waited = loader_->wait_seconds(), communicated = seconds_communicated();
  const std::vector<Batch> batches = next_batches();
  int64_t tokens = batches.empty() ? kNoStep : 0;
  for (const Batch& batch : batches) tokens += batch.valid_tokens;
  tokens = sum_over_ranks(*run_.communicator, tokens);
  if (tokens < 0) return std::nullopt;

  StepResult result;
  for (const Batch& batch : batches) {
    if (buckets_ && &batch == &batches.back()) buckets_->start_in_next_pass();
    result.sums += accumulate_gradients(*run_.student, run_.teacher.get(), batch, loss, forward_options(run_), tokens);
  }
  result.sums = sum_over_ranks(*run_.communicator, result.sums);
  if (buckets_) buckets_->finish();
  result.norm = buckets_ ? buckets_->norm() : optimizer_->gradient_norm();
  result.learning_rate = learning_rate_at(stage, run_.config.lr_scheduler_type, state_.stage_step);
  result.finite = std::isfinite(result.sums.loss) && std::isfinite(result.norm);
  if (result.finite) optimizer_->step(result.learning_rate, result.norm);
  buckets_ ? buckets_->clear() : optimizer_->clear_gradients();

  ++state_.step;
  ++state_.stage_step;
  state_.cursor = batches.back().cursor;
  state_.tokens += tokens;
  const double seconds = seconds_since(start);
  state_.seconds += seconds;
  window_times_.seconds += seconds;
  window_times_.waited += loader_->wait_seconds() - waited;
  window_times_.communicated += seconds_communicated() - communicated;
  return result;
}

// Adds a step to the window of the log, or to the skipped steps. Too many skipped steps in a row end the run.
void Trainer::count(const StepResult& result) {
  if (result.finite) {
    state_.skipped_in_a_row = 0;
    state_.window.sums += result.sums;
    ++state_.window.steps;
    return;
  }
  ++state_.skipped;
  ++state_.skipped_in_a_row;
  recorder_.log_skip(state_, result);
  if (state_.skipped_in_a_row >= kMostSkippedInARow)
    fail(ExitCode::numerical, "step ", state_.step, ": ", kMostSkippedInARow,
         " steps in a row had a loss or gradient that is not finite; the last batch ends at ", to_json(state_.cursor).dump(),
         "; a lower learning_rate, more warmup_steps or another compute_dtype may help");
}

void Trainer::after_step(const TrainingStage& stage, const LossSettings& loss, const StepResult& result) {
  const TrainConfig& config = run_.config;
  const bool last = state_.stage_step == stage.steps;
  count(result);
  if (state_.window.steps > 0 && (state_.step % config.logging_steps == 0 || last)) {
    recorder_.log_step(state_, loss, result, window_times_);
    state_.window = {};
    window_times_ = {};
  }
  if (state_.cursor.skipped.size() > logged_skips_) recorder_.log_skipped_files(state_, logged_skips_);
  logged_skips_ = state_.cursor.skipped.size();
  recorder_.step_done(state_);
  if (last) return;  // finish_stage evaluates and saves
  if (config.eval_steps > 0 && state_.step % config.eval_steps == 0) with_teacher([&] { recorder_.evaluate(state_, "step"); });
  if (config.save_steps > 0 && state_.step % config.save_steps == 0) save();
}

// Each rank skips a file by itself when it cannot be had. If only some ranks did, their rows no longer belong together.
void Trainer::check_same_position() {
  if (run_.communicator->world() == 1) return;
  const std::vector<std::string> cursors = run_.communicator->all_gather(to_json(state_.cursor).dump());
  for (size_t rank = 1; rank < cursors.size(); ++rank)
    if (cursors[rank] != cursors[0])
      fail(ExitCode::unavailable, "process ", rank, " and process 0 have read different data since the last checkpoint (",
           cursors[rank], " and ", cursors[0], "); run the same command again to continue from there");
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  check_same_position();
  recorder_.save(state_, *optimizer_);
  saved_step_ = state_.step;
}

// Ends a stage: evaluates, saves the model under its own name if another stage follows, and saves a checkpoint at the beginning
// of the next stage, with a new optimizer.
void Trainer::finish_stage(const TrainingStage& stage) {
  with_teacher([&] { recorder_.evaluate(state_, "stage_end"); });
  if (&stage != &stages_.back()) recorder_.save_stage(stage);
  ++state_.stage_index;
  state_.stage_step = 0;
  optimizer_ = fresh_optimizer();
  saved_step_ = -1;  // a checkpoint of this step, made when the run was stopped here, is from before the end of the stage
  save();
}

std::string Trainer::dry_run() {
  loader_ = std::make_unique<DataLoader>(run_.data, *run_.tokenizer, state_.cursor);
  const TrainingStage& stage = stages_.at(0);
  const StepResult result = train_step(stage, loss_of(stage, run_.config)).value();
  const MemoryStatistics memory = memory_statistics(run_.device);
  std::string text = fmt::format("one step: loss {:.4f}, gradient norm {:.4f}, {:.2f} s, {:.0f} tokens/s\n",
                                 result.sums.loss / double(std::max<int64_t>(1, result.sums.tokens)), result.norm,
                                 state_.seconds, double(state_.tokens) / state_.seconds);
  text += fmt::format("{:<24}{:>14}{:>14}\n", "memory (MiB)", "after", "peak");
  const auto row = [&](const std::string& name, int64_t now, int64_t peak) {
    text += fmt::format("{:<24}{:>14.1f}{:>14.1f}\n", name, double(now) / (1 << 20), double(peak) / (1 << 20));
  };
  for (const auto& holder : memory.holders) row(holder.label, holder.in_use, holder.peak);
  row("all tensors", memory.in_use, memory.peak);
  text += fmt::format("steps in all: {}; nothing was written", total_steps());
  return text;
}

}  // namespace echo
