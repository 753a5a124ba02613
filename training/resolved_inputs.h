#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/train_config.h"
#include "data/data_settings.h"

namespace echo {

// Where everything that a run reads was found. Files and folders are looked for once, and every part of the run uses this
// answer.
struct ResolvedInputs {
  std::optional<std::filesystem::path> teacher;  // model folder; mode distill
  // Model folder with the weights that training starts from: the student's, else the teacher's. Empty when they are random.
  std::optional<std::filesystem::path> start;
  std::filesystem::path tokenizer;                // tokenizer.model
  std::string data;                               // data.path as a whole: the analysis reads its documents
  DataPaths data_paths;                           // its parts: to train on, and held out
  std::optional<std::filesystem::path> analysis;  // stored similarity matrix; set when the plan reads one
};

// The answer, and an Error for every input that was not found; its member is then empty.
struct InputSearch {
  ResolvedInputs found;
  std::vector<Error> problems;
};
// Looks for teacher, start weights, tokenizer, data and stored analysis, in this order. Nothing is opened. An input that
// depends on another one that is missing (the tokenizer in the teacher's folder) is no problem of its own.
InputSearch search_inputs(const TrainConfig& config);

// The same for a run that needs all of them. Throws the first problem: Error (input_missing) names every place looked at and
// the ways to provide the input; (config) for a tokenizer that is neither given nor in a model's folder.
ResolvedInputs resolve_inputs(const TrainConfig& config);

}  // namespace echo
