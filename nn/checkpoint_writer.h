#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "nn/model_description.h"
#include "weight_files/tensor_source.h"

namespace echo {

enum class WeightFormat { safetensors, torch_archive };

struct SaveOptions {
  WeightFormat format = WeightFormat::safetensors;
  int64_t max_shard_bytes = 5'000'000'000;  // a tensor larger than this gets its own file
  int64_t shards = 0;  // when positive: at most this many files of about equal size, and max_shard_bytes is ignored
  std::optional<std::filesystem::path> tokenizer;  // the file to copy as tokenizer.model
};

// Writes a model folder for CheckpointReader and transformers: config.json, generation_config.json, tokenizer.model and the
// weights (model.safetensors, or model-00001-of-00003.safetensors ... with model.safetensors.index.json, and the same for
// pytorch_model.bin). Weights are stored in description.config.dtype: f32, bf16 or f64. `folder` is created if it does not
// exist (its parent must exist), and must be empty. On return all data is on disk. After an error the folder is as before. The
// provider is called for every tensor of weight_shapes(config, leader_map), in that order. It may return any float dtype. One
// tensor at a time is converted and kept in memory.
// Throws Error: io with the file when writing fails, usage when the folder is not empty, input_missing for the tokenizer.
void save_model_folder(const std::filesystem::path& folder, const ModelDescription& description, const TensorProvider& provider,
                       const SaveOptions& options = {});

// The same for tensors in memory: exactly those of weight_shapes(). Throws Error (internal) otherwise.
void save_model_folder(const std::filesystem::path& folder, const ModelDescription& description, const NamedTensors& tensors,
                       const SaveOptions& options = {});

}  // namespace echo
