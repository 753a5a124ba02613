#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "tests/test_support.h"

namespace echo {

// Inputs for runs that take a fraction of a second: generated stories, a tokenizer of 350 pieces, and a teacher of 4 layers of
// width 32, trained on the stories for a few steps. Made once per process, and removed at its end.
struct TinyInputs {
  std::filesystem::path corpus, tokenizer, teacher;
};
const TinyInputs& tiny_inputs();

// Configurations with these inputs, one thread, and a log line for every step.
TrainConfig tiny_distillation(const std::filesystem::path& output_dir);  // 8 + 4 steps, [0, 1, 1, 3]
TrainConfig tiny_pretraining(const std::filesystem::path& output_dir);   // 6 steps

// A temporary folder, in memory if the system has such a folder, because flushing many small checkpoints to disk takes time.
std::unique_ptr<TemporaryFolder> memory_folder();

// Writes the configuration as YAML to `file` and returns its path, for ./train.
std::string written(const TrainConfig& config, const std::filesystem::path& file);

// Differences between two runs that should be equal: weights and moments of every checkpoint, their states, the final model,
// and every logged value except times and memory. One line each. Empty when all bits are equal.
std::vector<std::string> differences(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace echo
