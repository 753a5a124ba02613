#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/train_config.h"
#include "training/run_data.h"

namespace echo {

// The location of every input of a run. Files and folders are searched only once, and every part of the run uses this result.
struct ResolvedInputs {
  std::optional<std::filesystem::path> teacher;  // model folder; mode distill
  // Model folder with the start weights: the student's, otherwise the teacher's. Empty when the start weights are random.
  std::optional<std::filesystem::path> start;
  std::filesystem::path tokenizer;  // tokenizer.model
  FoundData data;
  std::optional<std::filesystem::path> analysis;  // stored similarity matrix, if the plan reads one
};

// The inputs that were found, and an Error for every other one, whose member is then empty.
struct InputSearch {
  ResolvedInputs found;
  std::vector<Error> problems;
};
// Searches teacher, start weights, tokenizer, data and stored analysis, in this order, without opening files. If an input is
// missing, others that depend on it (the tokenizer in the teacher's folder) are not reported as well.
InputSearch search_inputs(const TrainConfig& config, const DataLookup& lookup = {});

// The same for a run that needs all of them. Throws the first problem: Error (input_missing) with every place that was searched
// and the ways to provide the input, or Error (config) for a tokenizer that is neither given nor in a model's folder.
ResolvedInputs resolve_inputs(const TrainConfig& config, const DataLookup& lookup = {});

// The same for all ranks of a run. The first one looks for data on other machines, at the first start of the run only, and the
// others get its answer. They wait for it, so that a mistake is reported once. `print` receives what has changed there since.
ResolvedInputs resolve_inputs_together(const TrainConfig& config, Communicator& communicator, const PrintLine& print);

}  // namespace echo
