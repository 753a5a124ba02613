#include "training/resolved_inputs.h"

#include "data/remote_listing.h"
#include "hub/paths.h"

namespace echo {
namespace {

namespace fs = std::filesystem;
using settings::Mode;
using settings::PlanMethod;

// True when the leader map comes from a similarity matrix in a file.
bool reads_analysis(const settings::Student& student) {
  if (!student.leader_map.empty() || student.plan.analysis.empty()) return false;
  const bool paper = student.plan.method == PlanMethod::paper_following || student.plan.method == PlanMethod::paper_lending;
  return student.plan.method == PlanMethod::optimal || (paper && student.plan.layers.empty());
}

// `model`: the folder to search when the configuration gives no tokenizer.
fs::path find_tokenizer(const TrainConfig& config, const std::optional<fs::path>& model) {
  if (!config.tokenizer.empty()) return resolve_input(config.tokenizer, "tokenizer");
  if (!model) fail(ExitCode::config, "tokenizer: not given; pretrain needs the path of a tokenizer.model");
  const fs::path file = *model / "tokenizer.model";
  if (!fs::exists(file))
    fail(ExitCode::input_missing, file.string(), ": not found; put the model's tokenizer.model there, or set tokenizer=FILE");
  return file;
}

}  // namespace

InputSearch search_inputs(const TrainConfig& config, const DataLookup& lookup) {
  InputSearch search;
  ResolvedInputs& found = search.found;
  const auto attempt = [&](const auto& look) {
    try {
      look();
    } catch (const Error& error) {
      search.problems.push_back(error);
    }
  };
  const std::string& student = config.student.model_name_or_path;
  if (config.mode == Mode::distill)
    attempt([&] { found.teacher = resolve_model(config.teacher.model_name_or_path, "teacher.model_name_or_path"); });
  if (student.empty())
    found.start = found.teacher;
  else
    attempt([&] { found.start = resolve_model(student, "student.model_name_or_path"); });
  const std::optional<fs::path>& model = config.mode == Mode::distill ? found.teacher : found.start;
  if (model || !config.tokenizer.empty() || search.problems.empty())
    attempt([&] { found.tokenizer = find_tokenizer(config, model); });
  attempt([&] { found.data = find_run_data(config, lookup); });
  if (reads_analysis(config.student))
    attempt([&] { found.analysis = resolve_input(config.student.plan.analysis, "student.plan.analysis"); });
  return search;
}

ResolvedInputs resolve_inputs(const TrainConfig& config, const DataLookup& lookup) {
  InputSearch search = search_inputs(config, lookup);
  if (!search.problems.empty()) throw search.problems.front();
  return std::move(search.found);
}

ResolvedInputs resolve_inputs_together(const TrainConfig& config, Communicator& communicator, const PrintLine& print) {
  if (!communicator.is_first()) {
    const std::string manifest = text_of_first(communicator, "");
    DataLookup lookup;
    if (!manifest.empty()) lookup.known = data_manifest_from_text(manifest, "the first process's list of data");
    return resolve_inputs(config, lookup);
  }
  const DataLookup lookup{stored_manifest(config), print};
  ResolvedInputs inputs = resolve_inputs(config, lookup);
  const std::shared_ptr<RemoteData> remote = inputs.data.paths.remote;
  text_of_first(communicator, remote ? remote->manifest().text() : "");
  if (remote && lookup.known)
    for (const std::string& line : moved_revisions(read_hub_settings(), remote->manifest())) print(line);
  return inputs;
}

}  // namespace echo
