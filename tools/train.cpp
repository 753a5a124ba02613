// ./train CONFIG [key.path=value ...]: builds a student and distils it from its teacher, or trains a model on text alone.
// ./train CONFIG --nproc 2: the same with two processes, called ranks. Only the first one prints and writes.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/program.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/thread_waiting.h"
#include "communication/job.h"
#include "communication/launch.h"
#include "config/check.h"
#include "config/reading.h"
#include "training/run_facts.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace {

using namespace echo;
using Ranks = std::shared_ptr<Communicator>;

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false, validate = false, dry_run = false, list_data = false;
};

void print_line(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// Checks everything that needs no weights, and reports all problems at once.
int validate(const Arguments& arguments) {
  const std::vector<std::string> problems = check_run(arguments.config, arguments.overrides);
  for (const std::string& problem : problems) print_line(problem);
  if (!problems.empty()) fail(ExitCode::config, arguments.config, ": ", problems.size(), " problem(s), listed above");
  print_line(arguments.config + ": no problems found");
  return 0;
}

// Loads models and data, from `checkpoint` if there is one, and prints what was loaded.
TrainingRun prepare(const TrainConfig& config, const ResolvedInputs& inputs, const Ranks& ranks,
                    std::optional<fs::path> checkpoint = {}) {
  std::unique_ptr<Progress> bar;
  SetupOptions setup;
  setup.communicator = ranks;
  setup.local_rank = {int(started_rank().local_rank), int(started_rank().local_world)};
  setup.checkpoint = std::move(checkpoint);
  setup.analysis_progress = [&](int64_t done, int64_t total) {
    if (!bar) bar = std::make_unique<Progress>("analysing the start weights", total);
    bar->update(done);
  };
  if (ranks->is_first()) setup.remark = print_line;
  TrainingRun run = prepare_run(config, inputs, setup);
  bar.reset();
  if (ranks->is_first()) print_line(describe_models(run));
  return run;
}

void dry_run(const TrainConfig& config, const ResolvedInputs& inputs, const Ranks& ranks) {
  RunRecorder nothing;
  TrainingRun run = prepare(config, inputs, ranks);
  const std::string text = Trainer(run, nothing).dry_run();
  if (ranks->is_first()) print_line(text);
}

// Trains from the checkpoint that the first rank has chosen.
void train_with(RunRecorder& recorder, const TrainConfig& config, const ResolvedInputs& inputs, const Ranks& ranks,
                const std::optional<fs::path>& chosen) {
  const std::string checkpoint = text_of_first(*ranks, chosen ? chosen->string() : "");
  TrainingRun run = prepare(config, inputs, ranks, checkpoint.empty() ? std::nullopt : std::optional<fs::path>(checkpoint));
  ranks->set_timeout(config.comm_timeout);
  const StopOnSignal stop;
  Trainer trainer(run, recorder, [&] { return stop.requested(); });
  if (!checkpoint.empty()) {
    trainer.resume(checkpoint);
    if (ranks->is_first())
      print_line(concat("resuming from ", checkpoint, ", step ", trainer.state().step, " of ", trainer.total_steps()));
  }
  trainer.train();
}

void train(const TrainConfig& config, const ResolvedInputs& inputs, const Ranks& ranks) {
  if (!ranks->is_first()) {
    RunRecorder nothing;
    return train_with(nothing, config, inputs, ranks, {});
  }
  std::unique_ptr<Progress> bar;
  RunDisplay display;
  display.restarts = restarts_so_far();
  display.print = [&](const std::string& line) {
    if (bar) bar->clear();
    print_line(line);
  };
  display.progress = [&](int64_t step, int64_t total) {
    if (!bar) bar = std::make_unique<Progress>("training", total, /*plain_lines=*/false);
    bar->update(step);
  };
  RunFolder folder(config, display);
  train_with(folder, config, inputs, ranks, folder.checkpoint_to_resume());
  bar.reset();
  print_line(concat("finished: ", (fs::path(config.output_dir) / "final").string()));
  if (config.report) print_line(concat("report: ", (fs::path(config.output_dir) / "report.html").string()));
}

int run(const Arguments& arguments, const StartedRank& started, Ranks& ranks) {
  const bool first = started.rank == 0;
  if (!first && (arguments.validate || arguments.print_config || arguments.list_data)) return 0;
  if (arguments.validate) return validate(arguments);
  if (!first) ranks->barrier();  // until the first rank has found no mistake, so that each is reported once
  const TrainConfig config = load_config(arguments.config, arguments.overrides);
  if (arguments.print_config) std::printf("%s", print_config(config).c_str());
  if (arguments.list_data) list_run_data(config, print_line);
  if (arguments.print_config || arguments.list_data) return 0;
  if (first) ranks->barrier();
  const ResolvedInputs inputs = resolve_inputs_together(config, *ranks, print_line);  // before anything is written
  ranks = connect_gpus(ranks, started, config.device, config.comm_timeout);
  if (ranks->world() > 1) check_ranks_agree(*ranks, facts_of_run(config, inputs));
  const int64_t threads = choose_threads(config, *ranks);
  if (first && ranks->world() > 1) print_line(concat(ranks->world(), " processes, ", threads, " thread(s) each"));
  arguments.dry_run ? dry_run(config, inputs, ranks) : train(config, inputs, ranks);
  return 0;
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
  app.add_flag("--list-data", arguments.list_data, "print the files that the run would read, with sizes, and fetch nothing");
  app.add_flag("--dry-run", arguments.dry_run, "run one step, print a memory table, write nothing");
  LaunchOptions launch;
  add_launch_options(app, launch);
  launch.remark = print_line;
  Ranks ranks;
  const int code = run_program(app, argc, argv, [&] {
    if (const auto code_of_others = run_other_processes(launch, command_of_rank(argc, argv))) return *code_of_others;
    const StartedRank started = started_rank();
    ranks = connect_processes(started);
    return run_as_rank(started.rank, [&] { return run(arguments, started, ranks); });
  });
  // The other ranks would wait for this one without end. Only a stop ends all of them together.
  if (ranks && code != 0 && code != int(ExitCode::interrupted)) ranks->end_job(code);
  return code;
}
