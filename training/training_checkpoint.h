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
// optimizer.safetensors and manifest.json: the state, the configuration, size and XXH3 of every file, and XXH3 of the manifest.
//   checkpoint-40/  config.json  generation_config.json  model.safetensors  tokenizer.model  optimizer.safetensors
//   manifest.json
// It appears by one rename after everything is on disk. So a folder of that name is complete, unless the disk has damaged it.
struct CheckpointContent {
  TrainingState state;
  NamedTensors weights;                    // under the names of a model's checkpoint
  std::vector<TensorDescription> moments;  // AdamW::state()
  TensorProvider moment_provider;          // AdamW::state_provider()
  int64_t optimizer_steps = 0;
  ModelDescription description;
  std::filesystem::path tokenizer_file;
  nlohmann::json config;
};

// The weights of a model under their names in a checkpoint. They share its memory.
NamedTensors weights_of(const LanguageModel& model);

// Writes checkpoint-<state.step>, then prunes it and its predecessors. Returns its path. Throws Error (io). Then older
// checkpoints are not affected, and the unfinished folder is removed.
std::filesystem::path save_checkpoint(const std::filesystem::path& output_dir, const CheckpointContent& content, int64_t keep);

// Writes a model folder alone (end of a stage, final model), also by a rename. An existing folder of that name is replaced.
void save_model_atomically(const std::filesystem::path& folder, const LanguageModel& model, const ModelDescription& description,
                           const std::filesystem::path& tokenizer_file);

// Removes the oldest of the checkpoints up to `step` beyond `keep` (0: keep all). A folder that was removed in part has another
// name, which remove_unfinished() knows. Ignores errors.
void prune_checkpoints(const std::filesystem::path& output_dir, int64_t step, int64_t keep);

// Removes the unfinished folders of killed runs. Call it only with the run's lock, because another process may be saving.
void remove_unfinished(const std::filesystem::path& output_dir);

struct CheckpointSearch {
  std::optional<std::filesystem::path> newest;  // the one with the highest step that is as it was saved
  std::vector<std::filesystem::path> damaged;   // those with a higher step
  std::vector<std::string> problems;            // of each of them: file, hash, path
};
CheckpointSearch search_checkpoints(const std::filesystem::path& output_dir);

// Renames damaged checkpoints to checkpoint-<step>.damaged, so that they are neither resumed from nor counted.
void set_aside(const std::vector<std::filesystem::path>& damaged);

// Throws Error (bad_data) when the manifest is not as it was saved. Does not look at the other files.
nlohmann::json read_manifest(const std::filesystem::path& checkpoint);

// The same, and checks the other files. Throws Error: bad_data with what does not match the manifest (a file that is missing,
// or has another size or content), io when a file cannot be read.
nlohmann::json verified_manifest(const std::filesystem::path& checkpoint);

TrainingState state_from_manifest(const nlohmann::json& manifest);
void restore_optimizer(AdamW& optimizer, const std::filesystem::path& checkpoint, const nlohmann::json& manifest);

// Throws Error (config) when a changed setting would make it another run. The message has the changed keys and the ways out.
// Settings of logging, saving, evaluation and threads may change. So may the size and number of micro-batches and the number of
// ranks, as long as their product stays the same: the sequences of one step.
void check_same_run(const nlohmann::json& stored_config, const nlohmann::json& config, const std::filesystem::path& checkpoint,
                    int64_t stored_world = 1, int64_t world = 1);

}  // namespace echo
