#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/packer.h"
#include "nn/language_model.h"
#include "nn/model_description.h"
#include "training/optimizer.h"
#include "training/training_log.h"

namespace echo {

// The state of a run: everything except weights and moments that is needed to continue as if it had not stopped.
struct TrainingState {
  int64_t step = 0;                           // optimizer steps so far over all stages, including skipped ones
  int64_t stage_index = 0;                    // index in training_stages()
  int64_t stage_step = 0;                     // within that stage
  int64_t tokens = 0;                         // number of tokens trained on
  int64_t skipped = 0, skipped_in_a_row = 0;  // steps with a loss or gradient that was not finite
  double seconds = 0;                         // time spent training
  int64_t world = 1;                          // number of ranks that took these steps
  DataCursor cursor;                          // of the next batch
  nlohmann::json data_pin;                    // of data on other machines (DataManifest::pin); null when there is none
  LogWindow window;
};

// A checkpoint is a model folder named checkpoint-<step>, which every program can read. Beside the weights it has
// optimizer.safetensors and manifest.json: the state, the configuration, and size and XXH3 of every file.
//   checkpoint-40/  config.json  generation_config.json  model.safetensors  tokenizer.model  optimizer.safetensors
//   manifest.json
// It appears by one rename after everything is on disk. So a folder of that name is complete, unless the disk has damaged it.

// Writes checkpoint-<state.step>, then removes the oldest ones beyond `keep` (0: keep all). Returns its path. Throws Error
// (io). Then older checkpoints are not affected, and the unfinished folder is removed.
std::filesystem::path save_checkpoint(const std::filesystem::path& output_dir, const TrainingState& state,
                                      const LanguageModel& model, const AdamW& optimizer, const ModelDescription& description,
                                      const std::filesystem::path& tokenizer_file, const nlohmann::json& config, int64_t keep);

// Writes a model folder alone (end of a stage, final model), also by a rename. An existing folder of that name is replaced.
void save_model_atomically(const std::filesystem::path& folder, const LanguageModel& model, const ModelDescription& description,
                           const std::filesystem::path& tokenizer_file);

// Removes the unfinished folders of killed runs. Call it only with the run's lock, because another process may be saving.
void remove_unfinished(const std::filesystem::path& output_dir);

// The checkpoint with the highest step whose manifest verifies. Each one that does not verify adds a line to `remarks`.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& output_dir,
                                                       std::vector<std::string>& remarks);

// Throws Error (bad_data) with what does not match the manifest: a file that is missing, or has another size or content.
nlohmann::json verified_manifest(const std::filesystem::path& checkpoint);

TrainingState state_from_manifest(const nlohmann::json& manifest);
void restore_optimizer(AdamW& optimizer, const std::filesystem::path& checkpoint, const nlohmann::json& manifest);

// Throws Error (config) when a changed setting would make it another run. The message has the changed keys and the ways out.
// Settings of logging, saving, evaluation and threads may change. So may the size and number of micro-batches and the number of
// ranks, as long as their product stays the same: the sequences of one step.
void check_same_run(const nlohmann::json& stored_config, const nlohmann::json& config, const std::filesystem::path& checkpoint,
                    int64_t stored_world = 1, int64_t world = 1);

}  // namespace echo
