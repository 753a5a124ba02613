#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/reading.h"
#include "config/train_config.h"

namespace echo {

// What is wrong with the values that needs no file to be seen: ranges, keys that a mode needs, keys that contradict
// each other. One line each: "key: what is wrong; what is expected; remedy".
std::vector<std::string> validate_config(const TrainConfig& config);

// The problems of reading and those of validate_config, all with the file and line (or the override) that the value
// came from; keys that could not be read are not checked a second time. Empty when the configuration can be used.
std::vector<std::string> check_config(const ConfigReading& reading);

// read_config and check_config. Throws Error (input_missing) when the file cannot be read, (config) with a line for each
// problem.
TrainConfig load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// A run of optimizer steps with one loss, one schedule and a fresh optimizer.
struct TrainingStage {
  int number;         // 1 or 2, as in the log; pretrain and continue have stage 1 only
  bool distillation;  // the terms of config.distillation; false: cross-entropy on true labels
  int64_t steps;
  int64_t warmup_steps;  // config.warmup_steps, or ceil(warmup_ratio * steps)
  double learning_rate;  // peak
};

// The stages of a run in order: distill has stage1 and stage2 where enabled, pretrain and continue have one
// (num_train_epochs). Throws Error (config) as stage_steps does.
std::vector<TrainingStage> training_stages(const TrainConfig& config);
int64_t steps_of(const std::vector<TrainingStage>& stages);  // of all together

// Tokens of one optimizer step of one process: sequence_length * per_device_train_batch_size *
// gradient_accumulation_steps.
int64_t tokens_per_step(const TrainConfig& config);

// Optimizer steps of stage `number`, 0 when the mode does not have it or it is switched off:
//   ceil(num_train_epochs * epoch_tokens / tokens_per_step), at most max_steps when that is set;
//   max_steps alone when epoch_tokens is 0.
// TinyLlama's recipe: ceil(3.7e9 / (2048 * 1024)) = ceil(1764.3) = 1765, and 442 for the quarter epoch of stage 2.
// Throws Error (config) when neither epoch_tokens nor max_steps says how long it is.
int64_t stage_steps(const TrainConfig& config, int number);

}  // namespace echo
