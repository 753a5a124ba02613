#pragma once

#include <memory>
#include <optional>

#include "config/train_config.h"
#include "data/data_loader.h"
#include "nn/language_model.h"
#include "nn/model_description.h"
#include "tokenizer/tokenizer.h"
#include "training/resolved_inputs.h"

namespace echo {

// Everything a run needs, loaded and checked against each other.
struct TrainingRun {
  TrainConfig config;
  std::unique_ptr<LanguageModel> teacher;  // frozen; null without distillation
  std::unique_ptr<LanguageModel> student;
  ModelDescription description;  // of the student, as its config.json will say
  ResolvedInputs inputs;
  std::optional<Tokenizer> tokenizer;
  DataSettings data;
  DType compute_dtype = DType::f32;
  Device device;
  std::vector<std::string> remarks;  // for console and report: a line each
};

struct SetupOptions {
  // Weights and leader map of the student come from this checkpoint folder instead of the config's start weights.
  std::optional<std::filesystem::path> checkpoint;
  std::function<void(int64_t done, int64_t total)> analysis_progress;  // may be empty
  std::function<void(const std::string& line)> remark;  // each of TrainingRun::remarks, when it is known; may be empty
};

// Plans the leader map and the memory, then loads tokenizer, teacher and student. Throws Error: input_missing naming a file
// that is no longer where it was found; bad_data when tokenizer and model do not fit each other; config for a map that does
// not fit; device when the GPU that is asked for cannot be had.
TrainingRun prepare_run(const TrainConfig& config, const ResolvedInputs& inputs, const SetupOptions& options = {});

// One line for each input that was not found, and for what is wrong in those that were, as far as it shows without loading
// weights.
std::vector<std::string> check_inputs(const TrainConfig& config, const InputSearch& search);

}  // namespace echo
