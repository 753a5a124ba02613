// ./train CONFIG [key.path=value ...]: builds a student, distils it from its teacher, or trains a model on text alone.
#include <omp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/program.h"
#include "base/progress.h"
#include "base/signals.h"
#include "config/check.h"
#include "config/reading.h"
#include "tensor/allocator.h"
#include "training/run_report.h"
#include "training/trainer.h"

namespace {

using namespace echo;

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false, validate = false, dry_run = false;
};

void print_line(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// Everything that can be checked without loading weights; every problem at once.
int validate(const Arguments& arguments) {
  const ConfigReading reading = read_config(arguments.config, arguments.overrides);
  std::vector<std::string> problems = check_config(reading);
  if (problems.empty()) problems = check_inputs(reading.config);
  for (const std::string& problem : problems) print_line(problem);
  if (!problems.empty()) fail(ExitCode::config, arguments.config, ": ", problems.size(), " problem(s), listed above");
  print_line(arguments.config + ": no problems found");
  return 0;
}

// The checkpoint to go on from, by resume_from_checkpoint. Throws Error (usage) when starting anew would mix two runs.
std::optional<fs::path> checkpoint_to_resume(const TrainConfig& config) {
  const std::string& wish = config.resume_from_checkpoint;
  if (wish != "auto" && wish != "none") {
    verified_manifest(wish);
    return wish;
  }
  std::vector<std::string> remarks;
  const std::optional<fs::path> newest = newest_checkpoint(config.output_dir, remarks);
  for (const std::string& remark : remarks) print_line(remark);
  if (wish == "auto") return newest;
  if (newest)
    fail(ExitCode::usage, config.output_dir,
         ": already holds checkpoints, and resume_from_checkpoint is none; "
         "take another output_dir, or remove that folder");
  return std::nullopt;
}

void print_plan(const TrainingRun& run) {
  const LlamaConfig& config = run.description.config;
  const LeaderMap& map = run.description.leader_map;
  print_line(concat("student: ", run.student->parameter_count(), " parameters, ", map.follower_count(), " of ",
                    config.num_hidden_layers, " layers follow (", map.describe(), ")"));
  if (run.teacher) print_line(concat("teacher: ", run.teacher->parameter_count(), " parameters, ", run.teacher_name));
}

int train(const Arguments& arguments) {
  set_memory_remedy(
      "a smaller per_device_train_batch_size, a shorter data.sequence_length or gradient_checkpointing=true needs less");
  const TrainConfig config = load_config(arguments.config, arguments.overrides);
  if (config.threads > 0) omp_set_num_threads(int(config.threads));

  std::unique_ptr<FileLock> lock;
  SetupOptions setup;
  if (!arguments.dry_run) {
    check_start(config);  // before anything is written
    fs::create_directories(config.output_dir);
    lock = std::make_unique<FileLock>(fs::path(config.output_dir) / ".lock");
    setup.checkpoint = checkpoint_to_resume(config);
  }
  const auto analysis_bar = std::make_shared<std::unique_ptr<Progress>>();
  setup.analysis_progress = [analysis_bar](int64_t done, int64_t total) {
    if (!*analysis_bar) *analysis_bar = std::make_unique<Progress>("analysing the start weights", total);
    (*analysis_bar)->update(done);
  };
  setup.remark = print_line;
  TrainingRun run = prepare_run(config, setup);
  analysis_bar->reset();
  print_plan(run);

  const StopOnSignal stop;
  std::unique_ptr<Progress> bar;
  TrainerCallbacks callbacks;
  callbacks.print = [&](const std::string& line) {
    if (bar) bar->clear();
    print_line(line);
  };
  callbacks.progress = [&](int64_t step, int64_t total) {
    if (!bar) bar = std::make_unique<Progress>("training", total, /*plain_lines=*/false);
    bar->update(step);
  };
  callbacks.stop_requested = [&] { return stop.requested(); };
  if (config.report) callbacks.report = [&](const fs::path& folder) { write_run_report(folder, run); };

  Trainer trainer(run, callbacks);
  if (arguments.dry_run) {
    print_line(trainer.dry_run());
    return 0;
  }
  if (setup.checkpoint) {
    trainer.resume(*setup.checkpoint);
    print_line(
        concat("going on from ", setup.checkpoint->string(), ", step ", trainer.state().step, " of ", trainer.total_steps()));
  }
  trainer.train();
  bar.reset();
  print_line(concat("finished: ", (fs::path(config.output_dir) / "final").string()));
  if (config.report) print_line(concat("report: ", (fs::path(config.output_dir) / "report.html").string()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Builds a shared-attention student of a Llama and distils it, or trains on text alone (mode in the config).\n"
      "Example: ./train configs/stories12L_kd.yaml learning_rate=5e-4");
  Arguments arguments;
  app.add_option("config", arguments.config, "YAML file, see configs/")->required();
  app.add_option("overrides", arguments.overrides, "key.path=value: overrides any key of the config");
  app.add_flag("--print-config", arguments.print_config, "print every key with its value and meaning, and stop");
  app.add_flag("--validate", arguments.validate, "check everything that can be checked, report every problem, and stop");
  app.add_flag("--dry-run", arguments.dry_run, "one step and a memory table; nothing is written");
  return run_program(app, argc, argv, [&] {
    if (arguments.validate) return validate(arguments);
    if (arguments.print_config) {
      std::printf("%s", print_config(load_config(arguments.config, arguments.overrides)).c_str());
      return 0;
    }
    return train(arguments);
  });
}
