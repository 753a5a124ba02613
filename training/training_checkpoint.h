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

// Where a run stands: all that is needed beside weights and moments to go on as if it had not stopped.
struct TrainingState {
  int64_t step = 0;                           // optimizer steps so far, skipped ones included, over all stages
  int64_t stage_index = 0;                    // into training_stages()
  int64_t stage_step = 0;                     // within that stage
  int64_t tokens = 0;                         // trained on
  int64_t skipped = 0, skipped_in_a_row = 0;  // steps with a loss or gradient that was not finite
  double seconds = 0;                         // spent training
  DataCursor cursor;                          // of the next batch
  LogWindow window;
};

// A checkpoint is a model folder that every program reads, named checkpoint-<step>, with optimizer.safetensors and
// manifest.json beside the weights: state, configuration, and size and XXH3 of every file.
//   checkpoint-40/  config.json  generation_config.json  model.safetensors  tokenizer.model  optimizer.safetensors
//   manifest.json
// It appears by one rename once everything is on the disk, so a folder of that name is whole or the disk has damaged it.

// Writes checkpoint-<state.step>, then removes the oldest beyond `keep` (0: all stay). Returns its path.
// Throws Error (io); older checkpoints are then untouched and the unfinished folder is removed.
std::filesystem::path save_checkpoint(const std::filesystem::path& output_dir, const TrainingState& state,
                                      const LanguageModel& model, const AdamW& optimizer, const ModelDescription& description,
                                      const std::filesystem::path& tokenizer_file, const nlohmann::json& config, int64_t keep);

// A model folder alone (stage ends, the final model), by the same rename; one of that name is replaced.
void save_model_atomically(const std::filesystem::path& folder, const LanguageModel& model, const ModelDescription& description,
                           const std::filesystem::path& tokenizer_file);

// Removes the unfinished folders that killed runs left. Only under the run's lock: another process may be saving.
void remove_unfinished(const std::filesystem::path& output_dir);

// The checkpoint with the highest step whose manifest verifies; each that does not adds a line to `remarks`.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& output_dir,
                                                       std::vector<std::string>& remarks);

// Throws Error (bad_data) naming what does not fit the manifest: a file that is missing, of another size or content.
nlohmann::json verified_manifest(const std::filesystem::path& checkpoint);

TrainingState state_from_manifest(const nlohmann::json& manifest);
void restore_optimizer(AdamW& optimizer, const std::filesystem::path& checkpoint, const nlohmann::json& manifest);

// Refuses to go on with settings under which the run would not be the same: Error (config) naming the keys that changed and the
// ways out. Settings of logging, saving, evaluation and threads may change.
void check_same_run(const nlohmann::json& stored_config, const nlohmann::json& config, const std::filesystem::path& checkpoint);

}  // namespace echo
