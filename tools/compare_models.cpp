// ./compare_models --teacher DIR --data PATH MODEL_DIR...: compares models on held-out text.
#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/program.h"
#include "base/progress.h"
#include "base/thread_waiting.h"
#include "data/data_search.h"
#include "evaluation/comparison.h"
#include "hub/paths.h"
#include "nn/model_io.h"
#include "report/numbers.h"
#include "tensor/device_choice.h"

namespace {

using namespace echo;

struct Arguments {
  std::string teacher, data, names, tokenizer, json, svg, device = "auto";
  std::vector<std::string> models;
  int64_t rows = 64, sequence_length = 256, batch_size = 8, repeats = 3;
  int threads = 0;
  bool before = false;
};

struct Entry {
  std::string name;
  std::unique_ptr<LanguageModel> model;
};

// Of a folder with validation/ in it, only that part is used. Other data is held-out as a whole.
std::vector<Batch> held_out_text(const Arguments& arguments, const Tokenizer& tokenizer) {
  FoundData found = find_data({.data = arguments.data});
  DataSettings settings;
  settings.paths = std::move(found.paths);
  if (settings.paths.validation.empty()) settings.paths.validation = found.all;
  settings.sequence_length = arguments.sequence_length;
  return held_out_batches(settings, tokenizer, arguments.batch_size, arguments.rows);
}

// The names of the models in the table: the given names, then the folders.
std::vector<std::string> names_of(const Arguments& arguments) {
  std::vector<std::string> names;
  std::istringstream given(arguments.names);
  for (std::string name; std::getline(given, name, ',');) names.push_back(name);
  if (names.size() > arguments.models.size())
    fail(ExitCode::usage, "--names: ", names.size(), " names for ", arguments.models.size(), " models");
  names.insert(names.end(), arguments.models.begin() + ptrdiff_t(names.size()), arguments.models.end());
  return names;
}

// The teacher comes first. With --before, the teacher's weights with the first student's leader map come second.
std::vector<Entry> load_models(const Arguments& arguments) {
  const ChosenDevice chosen = choose_device(arguments.device);
  fmt::print(stderr, "device: {}\n", chosen.reason);
  const WeightOptions frozen{.dtype = DType::f32, .requires_gradient = false, .device = chosen.device};
  std::vector<Entry> entries;
  const std::vector<std::string> names = names_of(arguments);
  const CheckpointReader teacher(resolve_model(arguments.teacher, "--teacher"));
  entries.push_back({"teacher", load_model(teacher, frozen)});
  for (size_t i = 0; i < arguments.models.size(); ++i) {
    const CheckpointReader reader(resolve_model(arguments.models[i], "MODEL_DIR"));
    if (reader.config().vocab_size != teacher.config().vocab_size)
      fail(ExitCode::bad_data, reader.folder().string(), ": vocabulary of ", reader.config().vocab_size, ", the teacher has ",
           teacher.config().vocab_size, "; only models with the same tokenizer can be compared");
    if (arguments.before && i == 0)
      entries.push_back({"student, untrained", load_student(teacher, reader.leader_map(), frozen)});
    entries.push_back({names[i], load_model(reader, frozen)});
  }
  return entries;
}

int compare(const Arguments& arguments) {
  if (arguments.threads > 0) omp_set_num_threads(arguments.threads);
  fs::path tokenizer_file = arguments.tokenizer;
  if (tokenizer_file.empty()) tokenizer_file = resolve_model(arguments.teacher, "--teacher") / "tokenizer.model";
  const Tokenizer tokenizer(tokenizer_file);
  const std::vector<Batch> batches = held_out_text(arguments, tokenizer);
  const std::vector<Entry> entries = load_models(arguments);
  if (tokenizer.vocabulary_size() != entries[0].model->config().vocab_size)
    fail(ExitCode::bad_data, tokenizer_file.string(), ": ", tokenizer.vocabulary_size(),
         " pieces, but the teacher has vocab_size ", entries[0].model->config().vocab_size,
         "; use the tokenizer that it was trained with");

  const LanguageModel& teacher = *entries[0].model;
  std::vector<ComparedModel> compared;  // in the order of the entries
  {
    Progress bar("comparing", int64_t(entries.size()) * arguments.repeats, /*plain_lines=*/false);
    int64_t done = 0;
    // Speeds depend on the machine's other work. So every model is timed in every round, and its best round counts.
    for (int64_t round = 0; round < arguments.repeats; ++round)
      for (const Entry& entry : entries) {
        const EvaluationResult result = evaluate(*entry.model, round == 0 ? &teacher : nullptr, batches, DType::f32);
        if (round == 0) compared.push_back({entry.name, entry.model->parameter_count(), result});
        double& fastest = compared[size_t(&entry - entries.data())].result.tokens_per_second;
        fastest = std::max(fastest, result.tokens_per_second);
        bar.update(++done);
      }
  }
  fmt::print("{}", comparison_table(compared));
  fmt::print("means over {} held-out tokens; tokens/s of the forward pass, {} thread(s), the fastest batch of {} rounds\n",
             grouped(compared[0].result.tokens), omp_get_max_threads(), arguments.repeats);
  if (!arguments.json.empty()) write_file_atomically(arguments.json, comparison_json(compared));
  if (!arguments.svg.empty()) write_file_atomically(arguments.svg, comparison_svg(compared, "Models on held-out text"));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app(
      "Compares models with a teacher on held-out text: loss, KL(teacher || model), same most likely token, speed.\n"
      "Example: ./compare_models --teacher models/stories12L --data corpora/tinystories --before runs/stories12L_kd/final");
  Arguments arguments;
  app.add_option("--teacher", arguments.teacher, "model folder that the others are compared with")->required();
  app.add_option("--data", arguments.data,
                 "file, folder or glob of held-out text; a folder's validation/ sub-folder is used if it has one")
      ->required();
  app.add_option("models", arguments.models, "model folders");
  app.add_option("--names", arguments.names, "names for the table, separated by commas");
  app.add_flag("--before", arguments.before,
               "also compare the first model before training: the teacher's weights with its leader map");
  app.add_option("--tokenizer", arguments.tokenizer, "tokenizer.model, by default the teacher's");
  app.add_option("--rows", arguments.rows, "largest number of sequences")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  app.add_option("--sequence-length", arguments.sequence_length, "tokens per sequence")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--batch-size", arguments.batch_size, "sequences per batch")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--repeats", arguments.repeats, "number of timing rounds")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--threads", arguments.threads, "CPU threads; 0: all cores")->check(CLI::Range(0, 4096));
  app.add_option("--device", arguments.device, "auto (a GPU if there is one), cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--json", arguments.json, "also write the table to this file");
  app.add_option("--svg", arguments.svg, "also draw the table in this file");
  return run_program(app, argc, argv, [&] { return compare(arguments); });
}
