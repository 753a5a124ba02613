// ./train CONFIG [key.path=value ...]: builds a student and distils it from its teacher, or trains a model on text alone.
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/program.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/thread_waiting.h"
#include "config/check.h"
#include "config/reading.h"
#include "tensor/allocator.h"
#include "training/run_folder.h"
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

// Checks everything that needs no weights, and reports all problems at once.
int validate(const Arguments& arguments) {
  const ConfigReading reading = read_config(arguments.config, arguments.overrides);
  std::vector<std::string> problems = check_config(reading);
  if (problems.empty()) problems = check_inputs(reading.config, search_inputs(reading.config));
  for (const std::string& problem : problems) print_line(problem);
  if (!problems.empty()) fail(ExitCode::config, arguments.config, ": ", problems.size(), " problem(s), listed above");
  print_line(arguments.config + ": no problems found");
  return 0;
}

void print_plan(const TrainingRun& run) {
  const LlamaConfig& config = run.description.config;
  const LeaderMap& map = run.description.leader_map;
  print_line(concat("student: ", run.student->parameter_count(), " parameters, ", map.follower_count(), " of ",
                    config.num_hidden_layers, " layers follow (", map.describe(), ")"));
  if (run.teacher)
    print_line(concat("teacher: ", run.teacher->parameter_count(), " parameters, ", run.config.teacher.model_name_or_path));
}

// Loads models and data, from `checkpoint` if there is one, and prints what was loaded.
TrainingRun prepare(const TrainConfig& config, const ResolvedInputs& inputs, std::optional<fs::path> checkpoint = {}) {
  std::unique_ptr<Progress> bar;
  SetupOptions setup;
  setup.checkpoint = std::move(checkpoint);
  setup.analysis_progress = [&](int64_t done, int64_t total) {
    if (!bar) bar = std::make_unique<Progress>("analysing the start weights", total);
    bar->update(done);
  };
  setup.remark = print_line;
  TrainingRun run = prepare_run(config, inputs, setup);
  bar.reset();
  print_plan(run);
  return run;
}

int dry_run(const TrainConfig& config, const ResolvedInputs& inputs) {
  TrainingRun run = prepare(config, inputs);
  RunRecorder nothing;
  print_line(Trainer(run, nothing).dry_run());
  return 0;
}

int train(const TrainConfig& config, const ResolvedInputs& inputs) {
  std::unique_ptr<Progress> bar;
  RunDisplay display;
  display.print = [&](const std::string& line) {
    if (bar) bar->clear();
    print_line(line);
  };
  display.progress = [&](int64_t step, int64_t total) {
    if (!bar) bar = std::make_unique<Progress>("training", total, /*plain_lines=*/false);
    bar->update(step);
  };
  RunFolder folder(config, display);
  const std::optional<fs::path> checkpoint = folder.checkpoint_to_resume();
  TrainingRun run = prepare(config, inputs, checkpoint);

  const StopOnSignal stop;
  Trainer trainer(run, folder, [&] { return stop.requested(); });
  if (checkpoint) {
    trainer.resume(*checkpoint);
    print_line(concat("resuming from ", checkpoint->string(), ", step ", trainer.state().step, " of ", trainer.total_steps()));
  }
  trainer.train();
  bar.reset();
  print_line(concat("finished: ", (fs::path(config.output_dir) / "final").string()));
  if (config.report) print_line(concat("report: ", (fs::path(config.output_dir) / "report.html").string()));
  return 0;
}

int run(const Arguments& arguments) {
  if (arguments.validate) return validate(arguments);
  const TrainConfig config = load_config(arguments.config, arguments.overrides);
  if (arguments.print_config) {
    std::printf("%s", print_config(config).c_str());
    return 0;
  }
  set_memory_remedy(
      "a smaller per_device_train_batch_size, a shorter data.sequence_length or gradient_checkpointing=true needs less");
  if (config.threads > 0) omp_set_num_threads(int(config.threads));
  const ResolvedInputs inputs = resolve_inputs(config);  // a missing input ends the run before anything is written
  return arguments.dry_run ? dry_run(config, inputs) : train(config, inputs);
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app(
      "Builds a shared-attention student of a Llama and distils it, or trains on text alone (mode in the config).\n"
      "Example: ./train configs/stories12L_kd.yaml learning_rate=5e-4");
  Arguments arguments;
  app.add_option("config", arguments.config, "YAML file, see configs/")->required();
  app.add_option("overrides", arguments.overrides, "key.path=value: overrides any key of the config");
  app.add_flag("--print-config", arguments.print_config, "print every key with its value and meaning, and stop");
  app.add_flag("--validate", arguments.validate, "check settings and files, report every problem, and stop");
  app.add_flag("--dry-run", arguments.dry_run, "run one step, print a memory table, write nothing");
  return run_program(app, argc, argv, [&] { return run(arguments); });
}
