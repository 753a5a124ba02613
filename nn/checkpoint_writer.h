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
  int64_t max_shard_bytes = 5'000'000'000;         // a tensor larger than this has a file of its own
  int64_t shards = 0;                              // when positive: at most this many files, about equal, whatever their size
  std::optional<std::filesystem::path> tokenizer;  // copied as tokenizer.model
};

// Writes a model folder that CheckpointReader and transformers read: config.json, generation_config.json, the weights
// (model.safetensors, or model-00001-of-00003.safetensors ... with model.safetensors.index.json; pytorch_model.bin
// likewise) and tokenizer.model. Weights are stored in description.config.dtype, f32, bf16 or f64.
// `folder` is created when it is not there (not its parents) and must be empty. Everything is on the disk on return;
// after an error the folder is as it was.
// The provider is asked for every tensor of weight_shapes(config, leader_map), in that order, and may answer in any
// float dtype: one tensor at a time is converted and held.
// Throws Error: io when writing fails, the file named; usage when the folder holds something; input_missing for the
// tokenizer.
void save_model_folder(const std::filesystem::path& folder, const ModelDescription& description, const TensorProvider& provider,
                       const SaveOptions& options = {});

// The same for tensors that are all there: exactly those that weight_shapes() names (internal Error otherwise).
void save_model_folder(const std::filesystem::path& folder, const ModelDescription& description, const NamedTensors& tensors,
                       const SaveOptions& options = {});

}  // namespace echo
