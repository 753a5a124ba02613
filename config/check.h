#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/reading.h"
#include "config/train_config.h"

namespace echo {

// The problems of a configuration that can be seen without any file: values out of range, keys that a mode requires, and keys
// that contradict each other. One line per problem: "key: what is wrong; what is expected; remedy".
std::vector<std::string> validate_config(const TrainConfig& config);

// All problems: those of reading and those of validate_config. Each has the file and line, or the override, of the value. Keys
// that could not be read are not checked again. Empty when the configuration is valid.
std::vector<std::string> check_config(const ConfigReading& reading);

// Calls read_config and check_config. Throws Error: input_missing when the file cannot be read, config with one line per
// problem.
TrainConfig load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// A part of a run with one loss and one schedule, and with a new optimizer.
struct TrainingStage {
  int number;         // 1 or 2, as in the log; pretrain and continue have only stage 1
  bool distillation;  // true: the terms of config.distillation; false: cross-entropy on true labels
  int64_t steps;
  int64_t warmup_steps;  // config.warmup_steps, or ceil(warmup_ratio * steps)
  double learning_rate;  // peak
};

// The stages of a run, in order. distill has stage1 and stage2 where enabled. pretrain and continue have one stage
// (num_train_epochs). world: number of processes. Throws Error (config) as stage_steps does.
std::vector<TrainingStage> training_stages(const TrainConfig& config, int64_t world = 1);
int64_t steps_of(const std::vector<TrainingStage>& stages);  // the total of all stages

// Tokens of one optimizer step: sequence_length * per_device_train_batch_size * gradient_accumulation_steps * world, the number
// of processes.
int64_t tokens_per_step(const TrainConfig& config, int64_t world = 1);

// Optimizer steps of stage `number`. 0 when the mode does not have this stage or it is disabled.
//   ceil(num_train_epochs * epoch_tokens / tokens_per_step), at most max_steps if that is set;
//   max_steps alone when epoch_tokens is 0.
// Example, TinyLlama's recipe: ceil(3.7e9 / (2048 * 1024)) = ceil(1764.3) = 1765, and 442 for the quarter epoch of stage 2.
// Throws Error (config) when neither epoch_tokens nor max_steps gives the length.
int64_t stage_steps(const TrainConfig& config, int number, int64_t world = 1);

}  // namespace echo
