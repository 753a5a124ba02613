#pragma once

#include <memory>
#include <optional>

#include "config/train_config.h"
#include "data/data_loader.h"
#include "nn/language_model.h"
#include "tokenizer/tokenizer.h"

namespace echo {

// Everything a run needs, loaded and checked against each other.
struct TrainingRun {
  TrainConfig config;
  std::unique_ptr<LanguageModel> teacher;  // frozen; null without distillation
  std::unique_ptr<LanguageModel> student;
  ModelDescription description;  // of the student, as its config.json will say
  std::string teacher_name;      // for reports; empty without teacher
  std::filesystem::path tokenizer_file;
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

// Finds files, plans the leader map and the memory, then loads tokenizer, teacher and student. Throws Error: input_missing
// naming the folder and the ways to provide it; bad_data when tokenizer and model do not fit each other; config for a map that
// does not fit.
TrainingRun prepare_run(const TrainConfig& config, const SetupOptions& options = {});

// What can be found wrong by looking at files without loading weights: one line for each problem.
std::vector<std::string> check_inputs(const TrainConfig& config);

// Throws the Error of the first input that is missing (teacher, start weights, tokenizer, data), before anything is loaded.
void check_start(const TrainConfig& config);

DataSettings data_settings_of(const TrainConfig& config);
DType compute_dtype_of(const TrainConfig& config);
// Where the run computes, and why there. Throws Error (device) when the GPU that is asked for cannot be had.
ChosenDevice device_of(const TrainConfig& config);

}  // namespace echo
