#include "training/run_folder.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "config/reading.h"
#include "data/remote_data.h"
#include "evaluation/evaluation.h"
#include "tensor/allocator.h"
#include "training/run_report.h"
#include "training/training_log.h"

namespace echo {

using nlohmann::json;

namespace {

// Creates a folder and those above it. They stay after a power loss, like the checkpoints in them.
fs::path made(const fs::path& folder) {
  if (fs::is_directory(folder)) return folder;
  const fs::path parent = folder.parent_path();
  if (!parent.empty()) made(parent);
  if (fs::create_directory(folder)) sync_folder(parent);
  return folder;
}

}  // namespace

RunFolder::RunFolder(const TrainConfig& config, RunDisplay display)
    : config_(config), display_(std::move(display)), path_(made(config.output_dir)), lock_(path_ / ".lock") {}

std::optional<fs::path> RunFolder::checkpoint_to_resume() const {
  const std::string& wish = config_.resume_from_checkpoint;
  const bool restarted = display_.restarts > 0, names_one = wish != "auto" && wish != "none";
  if (names_one && !restarted) {
    verified_manifest(wish);
    return wish;
  }
  const CheckpointSearch found = search_checkpoints(path_);
  for (const std::string& problem : found.problems) print("warning: skipping a damaged checkpoint: " + problem);
  if (wish == "none" && !restarted) {
    if (!found.newest && found.damaged.empty()) return std::nullopt;
    fail(ExitCode::usage, config_.output_dir,
         ": already contains checkpoints, and resume_from_checkpoint is none; use another output_dir, or remove that folder");
  }
  if (!found.newest && !found.damaged.empty())
    fail(ExitCode::bad_data, config_.output_dir, ": no checkpoint is as it was saved (", found.problems.front(),
         "); put an intact one there, or use another output_dir to start from the beginning");
  if (found.newest) set_aside(found.damaged);
  if (found.newest || !names_one) return found.newest;
  verified_manifest(wish);
  return wish;
}

void RunFolder::begin(const TrainingRun& run, const TrainingState& state, bool resumed) {
  run_ = &run;
  keep_manifest();
  stages_ = training_stages(config_, run.communicator->world());
  total_steps_ = steps_of(stages_);
  remove_unfinished(path_);
  if (resumed) prune_checkpoints(path_, state.step, config_.save_total_limit);
  held_out_ = held_out_batches(run.data, *run.tokenizer, config_.per_device_eval_batch_size, config_.eval_rows);
  log_ = std::make_unique<TrainingLog>(path_ / "trainer_log.jsonl", resumed ? state.step : -1);
  saver_ = std::make_unique<CheckpointSaver>(CheckpointSaver::Settings{.output_dir = path_,
                                                                       .log = path_ / "trainer_log.jsonl",
                                                                       .keep = config_.save_total_limit,
                                                                       .in_background = run.saves_in_background},
                                             [this](const CheckpointSaver::Saved& saved) {
                                               save_stall_ += saved.waited;
                                               print(fmt::format("saved {} in {:.2f} s; training waited {:.2f} s",
                                                                 saved.folder.string(), saved.written, saved.waited));
                                             });
  if (display_.restarts > 0) log_->write({{"event", "restart"}, {"step", state.step}, {"restarts", display_.restarts}});
  if (resumed) return;
  write_file_atomically(path_ / "config.yaml", print_config(config_));
  if (run.teacher && !held_out_.empty())
    log_evaluation(state, "start", "teacher", echo::evaluate(*run.teacher, nullptr, held_out_, run.compute_dtype), false);
  evaluate(state, "start");
}

// Before anything is trained, so that each later start reads the same data.
void RunFolder::keep_manifest() const {
  const fs::path file = path_ / kDataManifest;
  std::error_code ignored;
  if (!run().data.paths.remote) {
    fs::remove(file, ignored);  // of an earlier run
    return;
  }
  const std::string text = run().data.paths.remote->manifest().text();
  if (!fs::exists(file, ignored) || read_file(file) != text) write_file_atomically(file, text);
}

void RunFolder::step_done(const TrainingState& state) {
  saver_->report_finished();
  if (display_.progress) display_.progress(state.step, total_steps_);
}

void RunFolder::log_step(const TrainingState& state, const LossSettings& loss, const StepResult& last_step,
                         const WindowTimes& times) {
  const double seconds = std::max(1e-9, times.seconds);
  json line = mean_terms(state.window.sums, loss);
  line["event"] = "train";
  line["step"] = state.step;
  line["stage"] = stage_number(state);
  line["stage_step"] = state.stage_step;
  line["steps_averaged"] = state.window.steps;
  line["learning_rate"] = last_step.learning_rate;
  line["grad_norm"] = last_step.norm;
  line["tokens"] = state.tokens;
  line["tokens_per_second"] = double(state.window.sums.tokens) / seconds;
  line["data_wait_share"] = times.waited / seconds;
  if (run().communicator->world() > 1) line["communication_wait"] = times.communicated / double(state.window.steps);
  line["save_stall_seconds"] = std::exchange(save_stall_, 0.0);
  line["peak_memory_bytes"] = memory_statistics(run().device).peak;
  line["eta_seconds"] = state.seconds / double(state.step) * double(total_steps_ - state.step);
  log_->write(line);
  print(console_line(line, total_steps_));
}

void RunFolder::log_skip(const TrainingState& state, const StepResult& result) {
  const json line = {{"event", "skipped"},
                     {"step", state.step},
                     {"stage", stage_number(state)},
                     {"reason", std::isfinite(result.sums.loss) ? "gradient not finite" : "loss not finite"},
                     {"cursor", to_json(state.cursor)}};
  log_->write(line);
  print(console_line(line, total_steps_) + "  (weights unchanged; batch ends at " + line["cursor"].dump() + ")");
}

void RunFolder::log_skipped_files(const TrainingState& state, size_t first) {
  const std::vector<std::string>& skipped = state.cursor.skipped;
  for (size_t i = first; i < skipped.size(); ++i) {
    const json line = {{"event", "skipped_file"}, {"step", state.step}, {"stage", stage_number(state)}, {"file", skipped[i]}};
    log_->write(line);
    print(concat("step ", state.step, ": ", skipped[i], " was skipped, number ", i + 1, " of at most ",
                 config_.data.max_skipped_shards, " (data.max_skipped_shards)"));
  }
}

void RunFolder::evaluate(const TrainingState& state, const char* when) {
  if (held_out_.empty()) return;
  const LanguageModel* teacher = run().teacher.get();
  log_evaluation(state, when, "student", echo::evaluate(*run().student, teacher, held_out_, run().compute_dtype),
                 teacher != nullptr);
}

void RunFolder::log_evaluation(const TrainingState& state, const char* when, const char* model, const EvaluationResult& result,
                               bool with_teacher) {
  json line = to_json(result, with_teacher);
  line["event"] = "evaluation";
  line["step"] = state.step;
  line["stage"] = stage_number(state);
  line["model"] = model;
  line["when"] = when;
  log_->write(line);
  print(console_line(line, total_steps_));
}

void RunFolder::save(const TrainingState& state, const AdamW& optimizer) {
  saver_->save({.state = state,
                .weights = weights_of(*run().student),
                .moments = optimizer.state(),
                .moment_provider = optimizer.state_provider(),
                .optimizer_steps = optimizer.steps(),
                .description = run().description,
                .tokenizer_file = run().inputs.tokenizer,
                .config = config_to_json(config_)});
}

void RunFolder::finish_saving() { saver_->wait(); }

void RunFolder::save_stage(const TrainingStage& stage) {
  save_model_atomically(path_ / fmt::format("stage{}", stage.number), *run().student, run().description,
                        run().inputs.tokenizer);
}

// Also runs when a finished run is started again, because the existing files may be from an earlier run in this folder.
void RunFolder::finish() {
  finish_saving();
  save_model_atomically(path_ / "final", *run().student, run().description, run().inputs.tokenizer);
  if (config_.report) write_run_report(path_, run());
}

std::optional<fs::path> RunFolder::last_checkpoint() {
  try {
    if (saver_) finish_saving();
  } catch (const Error&) {  // the one before it is there
  }
  return search_checkpoints(path_).newest;
}

int RunFolder::stage_number(const TrainingState& state) const {
  return state.stage_index < int64_t(stages_.size()) ? stages_[size_t(state.stage_index)].number : 0;
}

void RunFolder::print(const std::string& line) const {
  if (display_.print) display_.print(line);
}

}  // namespace echo
