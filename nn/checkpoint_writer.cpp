#include "nn/checkpoint_writer.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/file.h"
#include "nn/weight_names.h"
#include "weight_files/safetensors.h"
#include "weight_files/torch_archive.h"

namespace echo {
namespace {

using Shard = std::vector<TensorDescription>;

int64_t bytes_of(const TensorDescription& tensor) { return tensor.shape.elements() * size_of(tensor.dtype); }

// Splits into shards of consecutive tensors, with as many tensors per file as fit.
std::vector<Shard> split_into_shards(const std::vector<TensorDescription>& tensors, const SaveOptions& options) {
  int64_t total = 0;
  for (const TensorDescription& tensor : tensors) total += bytes_of(tensor);
  std::vector<Shard> shards;
  int64_t before = 0, in_shard = 0, last_part = -1;
  for (const TensorDescription& tensor : tensors) {
    const int64_t bytes = bytes_of(tensor);
    bool next;
    if (options.shards > 0) {  // which of the equal parts contains the tensor's middle
      const int64_t part =
          std::min(options.shards - 1, int64_t(double(before + bytes / 2) / double(total) * double(options.shards)));
      next = part != std::exchange(last_part, part);
    } else {
      next = shards.empty() || in_shard + bytes > options.max_shard_bytes;
    }
    if (next) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(tensor);
    before += bytes;
    in_shard += bytes;
  }
  return shards;
}

void write_file(const fs::path& path, std::string_view content) {
  FileWriter writer(path);
  writer.write(content);
  writer.finish();
}

// Formats like transformers: two spaces of indentation, a line break at the end.
std::string printed(const nlohmann::json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

nlohmann::json generation_config(const nlohmann::json& config) {
  nlohmann::json result = {{"_from_model_config", true}};
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})  // a family may have none of them
    if (const auto id = config.find(key); id != config.end() && !id->is_null()) result[key] = *id;
  return result;
}

void write_model(const fs::path& folder, const ModelDescription& description, const TensorProvider& provider,
                 const SaveOptions& options) {
  const DType dtype = description.config.dtype;
  const std::string tokenizer = options.tokenizer ? read_file(*options.tokenizer) : std::string();

  const nlohmann::json config = to_json(description);
  write_file(folder / "config.json", printed(config));
  write_file(folder / "generation_config.json", printed(generation_config(config)));
  if (options.tokenizer) write_file(folder / "tokenizer.model", tokenizer);

  std::vector<TensorDescription> tensors;
  int64_t total_bytes = 0;
  for (const WeightShape& weight : weight_shapes(description.config, description.leader_map)) {
    tensors.push_back({weight.name, weight.shape, dtype});
    total_bytes += bytes_of(tensors.back());
  }
  const TensorProvider in_dtype = [&](const TensorDescription& tensor) { return converted(provider(tensor), dtype); };
  const bool safetensors = options.format == WeightFormat::safetensors;
  const auto write_shard = [&](const std::string& file, const Shard& shard) {
    if (safetensors)
      write_safetensors(folder / file, shard, in_dtype, {{"format", "pt"}});  // transformers requires this entry
    else
      write_torch_archive(folder / file, shard, in_dtype);
  };
  const std::string stem = safetensors ? "model" : "pytorch_model", extension = safetensors ? ".safetensors" : ".bin";
  const std::vector<Shard> shards = split_into_shards(tensors, options);
  if (shards.size() == 1) {
    write_shard(stem + extension, shards.front());
  } else {
    nlohmann::json weight_map = nlohmann::json::object();
    for (size_t i = 0; i < shards.size(); ++i) {
      char number[32];
      std::snprintf(number, sizeof number, "-%05zu-of-%05zu", i + 1, shards.size());
      const std::string file = stem + number + extension;
      write_shard(file, shards[i]);
      for (const TensorDescription& tensor : shards[i]) weight_map[tensor.name] = file;
    }
    const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
    write_file(folder / (stem + extension + ".index.json"), printed(index));
  }
  sync_folder(folder);
}

}  // namespace

void save_model_folder(const fs::path& folder, const ModelDescription& description, const TensorProvider& provider,
                       const SaveOptions& options) {
  ECHO_CHECK(options.max_shard_bytes > 0 && options.shards >= 0, "save_model_folder: shards of ", options.max_shard_bytes,
             " bytes");
  ECHO_CHECK(is_float(description.config.dtype), "save_model_folder: weights cannot be stored as ", description.config.dtype);
  std::error_code error;
  const bool created = fs::create_directory(folder, error);
  if (error) fail(ExitCode::io, folder.string(), ": cannot be created: ", error.message());
  const bool empty = fs::is_empty(folder, error);
  if (error) fail(ExitCode::io, folder.string(), ": cannot be listed: ", error.message());
  if (!empty) fail(ExitCode::usage, folder.string(), ": holds files already; a new or empty folder is needed");
  try {
    write_model(folder, description, provider, options);
  } catch (...) {  // half a model is useless: restore the folder to its earlier state
    if (created)
      fs::remove_all(folder, error);
    else
      for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code ignored;
        fs::remove(entry->path(), ignored);
      }
    throw;
  }
}

void save_model_folder(const fs::path& folder, const ModelDescription& description, const NamedTensors& tensors,
                       const SaveOptions& options) {
  const size_t expected = weight_shapes(description.config, description.leader_map).size();
  ECHO_CHECK(tensors.size() == expected, "save_model_folder: ", tensors.size(), " tensors, the model has ", expected);
  std::map<std::string, Tensor> by_name(tensors.begin(), tensors.end());
  save_model_folder(
      folder, description,
      [&](const TensorDescription& tensor) {
        const auto found = by_name.find(tensor.name);
        ECHO_CHECK(found != by_name.end(), "save_model_folder: no tensor ", tensor.name);
        return found->second;
      },
      options);
}

}  // namespace echo
