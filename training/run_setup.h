#pragma once

#include <memory>
#include <optional>

#include "communication/communicator.h"
#include "config/train_config.h"
#include "data/data_loader.h"
#include "nn/language_model.h"
#include "nn/model_description.h"
#include "tensor/device_choice.h"
#include "tokenizer/tokenizer.h"
#include "training/resolved_inputs.h"

namespace echo {

// Everything a run needs, loaded and checked for consistency.
struct TrainingRun {
  TrainConfig config;
  std::unique_ptr<LanguageModel> teacher;  // frozen; null without distillation
  std::unique_ptr<LanguageModel> student;
  ModelDescription description;  // of the student, for its config.json
  ResolvedInputs inputs;
  std::optional<Tokenizer> tokenizer;
  DataSettings data;  // with this rank's part of the rows
  std::shared_ptr<Communicator> communicator = std::make_shared<SingleProcess>();
  DType compute_dtype = DType::f32;
  Device device;
  bool saves_in_background = false;  // from config.async_save and the memory
  std::vector<std::string> remarks;  // for console and report, one per line
};

struct SetupOptions {
  // If set, weights and leader map of the student come from this checkpoint folder, not from the config's start weights.
  std::optional<std::filesystem::path> checkpoint;
  std::function<void(int64_t done, int64_t total)> analysis_progress;  // may be empty
  // called with each of TrainingRun::remarks as soon as it is known; may be empty
  std::function<void(const std::string& line)> remark;
  std::shared_ptr<Communicator> communicator = std::make_shared<SingleProcess>();  // of the ranks that train together
  LocalRank local_rank;                                                            // chooses the GPU
};

// Plans the leader map and the memory, then loads tokenizer, teacher and student. All ranks call it together. The first one
// plans the map for all, and the files must be visible to all. Throws Error: input_missing with a file that
// has disappeared since it was found; bad_data when tokenizer and model do not match; config for a map that does not fit;
// device when the requested GPU is not available.
TrainingRun prepare_run(const TrainConfig& config, const ResolvedInputs& inputs, const SetupOptions& options = {});

// What was loaded, for the user: a line for the student, and one for the teacher if there is one.
std::string describe_models(const TrainingRun& run);

// Sets the number of CPU threads of this rank, and returns it: config.threads, otherwise this rank's part of the cores of its
// machine. All ranks call it together. With one rank and without the setting the number stays.
int64_t choose_threads(const TrainConfig& config, Communicator& communicator);

// One line per missing input, and one per problem in the inputs that were found, as far as these can be seen without loading
// weights.
std::vector<std::string> check_inputs(const TrainConfig& config, const InputSearch& search);

// The problems of a configuration and, if it has none, those of its inputs.
std::vector<std::string> check_run(const std::filesystem::path& config, const std::vector<std::string>& overrides);

}  // namespace echo
