#include "training/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "config/reading.h"
#include "tensor/allocator.h"
#include "training/schedule.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr int64_t kMostSkippedInARow = 3;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

OptimizerSettings optimizer_settings(const TrainConfig& config) {
  return {.beta1 = config.adam_beta1,
          .beta2 = config.adam_beta2,
          .epsilon = config.adam_epsilon,
          .weight_decay = config.weight_decay,
          .max_grad_norm = config.max_grad_norm};
}

}  // namespace

Trainer::Trainer(TrainingRun& run, TrainerCallbacks callbacks)
    : run_(run),
      callbacks_(std::move(callbacks)),
      output_dir_(run.config.output_dir),
      stages_(training_stages(run.config)),
      optimizer_(std::make_unique<AdamW>(*run.student, optimizer_settings(run.config))) {
  run.student->keep_compute_copies(run.compute_dtype);
}

Trainer::~Trainer() = default;

int64_t Trainer::total_steps() const {
  int64_t total = 0;
  for (const TrainingStage& stage : stages_) total += stage.steps;
  return total;
}

void Trainer::resume(const std::filesystem::path& checkpoint) {
  const json manifest = verified_manifest(checkpoint);
  check_same_run(manifest.at("config"), config_to_json(run_.config), checkpoint);
  state_ = state_from_manifest(manifest);
  restore_optimizer(*optimizer_, checkpoint, manifest);
  saved_step_ = state_.step;
}

// A device that fails takes everything on it along: what remains is the newest checkpoint, which the error names.
void Trainer::train() {
  try {
    run_stages();
  } catch (const Error& error) {
    if (error.code() != ExitCode::device) throw;
    std::vector<std::string> remarks;
    const auto newest = newest_checkpoint(output_dir_, remarks);
    fail(ExitCode::device, error.what(), "; ",
         newest ? concat("the run stands at ", newest->string(), ": run the same command again to go on from there")
                : std::string("no checkpoint had been saved"));
  }
}

void Trainer::run_stages() {
  const TrainConfig& config = run_.config;
  remove_unfinished(output_dir_);
  loader_ = std::make_unique<DataLoader>(run_.data, *run_.tokenizer, state_.cursor);
  held_out_ = held_out_batches(run_.data, *run_.tokenizer, config.per_device_eval_batch_size, config.eval_rows);
  log_ = std::make_unique<TrainingLog>(output_dir_ / "trainer_log.jsonl", saved_step_ < 0 ? -1 : state_.step);
  if (saved_step_ < 0) {
    write_file_atomically(output_dir_ / "config.yaml", print_config(config));
    evaluate_models("start", /*with_teacher_alone=*/true);
  }
  while (state_.stage_index < int64_t(stages_.size())) {
    const TrainingStage& stage = stages_[size_t(state_.stage_index)];
    const LossSettings loss = stage.distillation ? stage_loss(config.distillation) : true_label_loss();
    while (state_.stage_step < stage.steps) {
      const StepResult result = train_step(stage, loss);
      after_step(stage, loss, result);
      if (callbacks_.stop_requested && callbacks_.stop_requested()) {
        save();
        fail(ExitCode::interrupted, "stopped after step ", state_.step, " of ", total_steps(),
             "; checkpoint saved: run the same command again to go on");
      }
    }
    finish_stage(size_t(state_.stage_index));
  }
  // Written again when a finished run is started again: what lies there may be of an earlier run in this folder.
  save_model_atomically(output_dir_ / "final", *run_.student, run_.description, run_.tokenizer_file);
  if (callbacks_.report) callbacks_.report(output_dir_);
}

// One optimizer step over gradient_accumulation_steps micro-batches. They are all read first: each one's gradient is divided by
// the number of tokens of the whole step.
Trainer::StepResult Trainer::train_step(const TrainingStage& stage, const LossSettings& loss) {
  const TrainConfig& config = run_.config;
  const auto start = Clock::now();
  const double waited = loader_->wait_seconds();
  std::vector<Batch> batches;
  int64_t tokens = 0;
  for (int64_t i = 0; i < config.gradient_accumulation_steps; ++i) {
    batches.push_back(loader_->next_batch(config.per_device_train_batch_size));
    tokens += batches.back().valid_tokens;
  }
  ForwardOptions options;
  options.compute_dtype = run_.compute_dtype;
  options.recompute = config.gradient_checkpointing;
  options.detach_shared = config.student.detach_shared;

  StepResult result;
  for (const Batch& batch : batches)
    result.sums += accumulate_gradients(*run_.student, run_.teacher.get(), batch, loss, options, tokens);
  result.norm = optimizer_->gradient_norm();
  result.learning_rate = learning_rate_at(stage, config.lr_scheduler_type, state_.stage_step);
  result.finite = std::isfinite(result.sums.loss) && std::isfinite(result.norm);
  if (result.finite) optimizer_->step(result.learning_rate, result.norm);
  optimizer_->clear_gradients();

  ++state_.step;
  ++state_.stage_step;
  state_.cursor = batches.back().cursor;
  state_.tokens += tokens;
  const double seconds = seconds_since(start);
  state_.seconds += seconds;
  window_seconds_ += seconds;
  window_wait_ += loader_->wait_seconds() - waited;
  return result;
}

void Trainer::after_step(const TrainingStage& stage, const LossSettings& loss, const StepResult& result) {
  const TrainConfig& config = run_.config;
  const bool last = state_.stage_step == stage.steps;
  if (result.finite) {
    state_.skipped_in_a_row = 0;
    state_.window.sums += result.sums;
    ++state_.window.steps;
  } else {
    log_skip(stage, result);
  }
  if (state_.window.steps > 0 && (state_.step % config.logging_steps == 0 || last)) log_step(stage, loss, result);
  if (callbacks_.progress) callbacks_.progress(state_.step, total_steps());
  if (last) return;  // finish_stage evaluates and saves
  if (config.eval_steps > 0 && state_.step % config.eval_steps == 0) evaluate_models("step", false);
  if (config.save_steps > 0 && state_.step % config.save_steps == 0) save();
}

void Trainer::log_step(const TrainingStage& stage, const LossSettings& loss, const StepResult& result) {
  json line = mean_terms(state_.window.sums, loss);
  line["event"] = "train";
  line["step"] = state_.step;
  line["stage"] = stage.number;
  line["stage_step"] = state_.stage_step;
  line["steps_averaged"] = state_.window.steps;
  line["learning_rate"] = result.learning_rate;
  line["grad_norm"] = result.norm;
  line["tokens"] = state_.tokens;
  line["tokens_per_second"] = double(state_.window.sums.tokens) / std::max(1e-9, window_seconds_);
  line["data_wait_share"] = window_wait_ / std::max(1e-9, window_seconds_);
  line["peak_memory_bytes"] = memory_statistics(run_.device).peak;
  line["eta_seconds"] = state_.seconds / double(state_.step) * double(total_steps() - state_.step);
  log_->write(line);
  print(console_line(line, total_steps()));
  state_.window = {};
  window_seconds_ = window_wait_ = 0;
}

void Trainer::log_skip(const TrainingStage& stage, const StepResult& result) {
  ++state_.skipped;
  ++state_.skipped_in_a_row;
  const std::string position = to_json(state_.cursor).dump();
  const json line = {{"event", "skipped"},
                     {"step", state_.step},
                     {"stage", stage.number},
                     {"reason", std::isfinite(result.sums.loss) ? "gradient not finite" : "loss not finite"},
                     {"cursor", to_json(state_.cursor)}};
  log_->write(line);
  print(console_line(line, total_steps()) + "  (weights unchanged; batch ends at " + position + ")");
  if (state_.skipped_in_a_row >= kMostSkippedInARow)
    fail(ExitCode::numerical, "step ", state_.step, ": ", kMostSkippedInARow,
         " steps in a row without a finite loss; the last batch ends at ", position,
         "; a lower learning_rate, more warmup_steps or another compute_dtype may help");
}

void Trainer::evaluate_models(const char* when, bool with_teacher_alone) {
  if (held_out_.empty()) return;
  const auto write = [&](const char* model, const EvaluationResult& result, bool with_teacher) {
    json line = to_json(result, with_teacher);
    line["event"] = "evaluation";
    line["step"] = state_.step;
    line["stage"] = state_.stage_index < int64_t(stages_.size()) ? stages_[size_t(state_.stage_index)].number : 0;
    line["model"] = model;
    line["when"] = when;
    log_->write(line);
    print(console_line(line, total_steps()));
  };
  const LanguageModel* teacher = run_.teacher.get();
  if (with_teacher_alone && teacher != nullptr)
    write("teacher", evaluate(*teacher, nullptr, held_out_, run_.compute_dtype), false);
  write("student", evaluate(*run_.student, teacher, held_out_, run_.compute_dtype), teacher != nullptr);
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  const std::filesystem::path folder =
      save_checkpoint(output_dir_, state_, *run_.student, *optimizer_, run_.description, run_.tokenizer_file,
                      config_to_json(run_.config), run_.config.save_total_limit);
  saved_step_ = state_.step;
  print("saved " + folder.string());
}

// The end of a stage: evaluation, the model under a name of its own when another stage follows, and a checkpoint that stands at
// the beginning of what comes next, with a fresh optimizer.
void Trainer::finish_stage(size_t stage_index) {
  evaluate_models("stage_end", false);
  const bool another = stage_index + 1 < stages_.size();
  if (another)
    save_model_atomically(output_dir_ / fmt::format("stage{}", stages_[stage_index].number), *run_.student, run_.description,
                          run_.tokenizer_file);
  ++state_.stage_index;
  state_.stage_step = 0;
  optimizer_ = std::make_unique<AdamW>(*run_.student, optimizer_settings(run_.config));
  saved_step_ = -1;  // a checkpoint of this step, made when the run was stopped here, stands before the end of the stage
  save();
}

std::string Trainer::dry_run() {
  loader_ = std::make_unique<DataLoader>(run_.data, *run_.tokenizer, state_.cursor);
  const TrainingStage& stage = stages_.at(0);
  const LossSettings loss = stage.distillation ? stage_loss(run_.config.distillation) : true_label_loss();
  const StepResult result = train_step(stage, loss);
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

void Trainer::print(const std::string& line) const {
  if (callbacks_.print) callbacks_.print(line);
}

}  // namespace echo
