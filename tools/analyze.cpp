// ./analyze: measures which layers of a Llama attend alike, and proposes which of them could share their attention.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>

#include "analysis/analyze_command.h"
#include "analysis/analyze_model.h"
#include "analysis/report.h"
#include "base/error.h"
#include "base/program.h"
#include "base/progress.h"
#include "base/thread_waiting.h"
#include "data/data_search.h"
#include "hub/paths.h"
#include "tensor/allocator.h"
#include "tensor/device_choice.h"

namespace {

using namespace echo;

struct Arguments {
  std::string matrix, data, output;
  AnalyzeOptions measure;
  std::string device = "auto";
  PlanRequests plans;
};

// Also finds model and data in the shared folders. The record keeps the given names.
Analysis measure(const AnalyzeOptions& named, const std::string& device) {
  AnalyzeOptions found = named;
  const ChosenDevice chosen = choose_device(device);
  found.device = chosen.device;
  std::fprintf(stderr, "device: %s\n", chosen.reason.c_str());
  found.model = resolve_model(named.model.string(), "--model");
  const FoundData data = find_data({.data = named.data});
  found.data = data.all;
  found.remote = data.paths.remote;
  std::optional<Progress> progress;
  Analysis analysis = analyze_model(found, [&](int64_t done, int64_t total) {
    if (!progress) progress.emplace("samples", total);
    progress->update(done);
  });
  analysis.model = named.model.string();
  analysis.data = named.data.text();
  make_plans(analysis);
  return analysis;
}

int analyze(const Arguments& arguments, int argc, char** argv) {
  set_memory_remedy("a smaller --sequence-length needs less");
  const bool from_model = !arguments.measure.model.empty();
  if (from_model == !arguments.matrix.empty())
    fail(ExitCode::usage, "give either --model (with --data) or --matrix (--help lists the options)");
  if (from_model && arguments.data.empty()) fail(ExitCode::usage, "--model needs --data, a file or folder of documents");

  Analysis analysis;
  if (from_model) {
    AnalyzeOptions named = arguments.measure;
    named.data = arguments.data;
    analysis = measure(named, arguments.device);
  } else {
    analysis = read_analysis(arguments.matrix);
    make_plans(analysis);  // a stored analysis may have other plans
  }
  analysis.command.assign(argv, argv + argc);
  add_plans(analysis, arguments.plans);
  const auto files = write_analysis(analysis, arguments.output);
  std::fputs(analysis_summary(analysis).c_str(), stdout);
  std::printf("\nwritten:");
  for (const auto& file : files) std::printf(" %s", file.c_str());
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app(
      "Measures how alike the attention matrices of a Llama's layers are, and proposes plans in which layers share one.\n"
      "Writes analysis.json, similarity.svg and report.html.\n",
      "analyze");
  Arguments arguments;
  app.add_option("--model", arguments.measure.model, "folder of the model (config.json, weights, tokenizer.model)");
  app.add_option("--data", arguments.data,
                 "file or folder of documents, here or at hf://datasets/...: .jsonl, .jsonl.zst, .txt");
  app.add_option("--samples", arguments.measure.samples, "number of documents to measure on")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--sequence-length", arguments.measure.sequence_length, "tokens per document; shorter documents are skipped")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--device", arguments.device, "auto (a GPU if there is one), cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--matrix", arguments.matrix, "instead of a model: analysis.json, or any JSON file with a similarity matrix");
  app.add_option("--output", arguments.output, "folder to write to")->required();
  const auto list = [&](const char* name, auto& target, const char* help) {
    return app.add_option(name, target, help)->delimiter(',')->group("More plans");
  };
  list("--plan-followers", arguments.plans.followers, "also plan, by each method, with these numbers of followers");
  list("--plan-budget", arguments.plans.budgets, "optimal plans that save followers:N, parameters:N, flops:N or cache_bytes:N");
  app.add_option("--budget-tokens", arguments.plans.budget_tokens, "context length for flops (per token) and cache_bytes")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->group("More plans");
  list("--plan-list", arguments.plans.list, "these layers follow the nearest layer before them that is not listed");
  app.add_flag("--lend", arguments.plans.lend, "--plan-list names layers that lend to the next one instead")
      ->group("More plans");
  list("--plan-uniform", arguments.plans.uniform,
       "OWN,BLOCKS,SIZE: number of first layers that share nothing, number of blocks, layers per block");
  list("--plan-map", arguments.plans.leader_map, "a leader map: one leader per layer");
  return run_program(app, argc, argv, [&] { return analyze(arguments, argc, argv); });
}
