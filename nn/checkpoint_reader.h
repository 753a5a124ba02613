#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nn/model_description.h"
#include "nn/weight_names.h"
#include "weight_files/tensor_source.h"

namespace echo {

// A model folder in Hugging Face layout: config.json, and the first of these that exists:
//   model.safetensors | model.safetensors.index.json and its shards | pytorch_model.bin | pytorch_model.bin.index.json and its
//   shards.
// The constructor reads config.json and checks every header. Weights are read on request. Not for several threads at once.
// Throws Error: input_missing with the files it looked for, bad_data with file and reason.
class CheckpointReader {
 public:
  explicit CheckpointReader(std::filesystem::path folder);

  const std::filesystem::path& folder() const { return folder_; }
  const ModelDescription& description() const { return description_; }
  const LlamaConfig& config() const { return description_.config; }
  const LeaderMap& leader_map() const { return description_.leader_map; }

  struct CheckOptions {
    // Weights of the folder's own model that are not expected may be there: a teacher read as the source of a student.
    bool allow_unused = false;
  };
  // Compares the stored tensors with the expected ones. Throws Error (bad_data) with the number and the first few names of
  // those that are missing, not expected, of another shape or not floats. In a tied model the embedding may be stored under
  // either name, or under both with equal values.
  void check(const std::vector<WeightShape>& expected, CheckOptions options) const;
  void check(const std::vector<WeightShape>& expected) const { check(expected, CheckOptions{}); }
  // Compares with the folder's own config and leader map.
  void check() const { check(weight_shapes(config(), leader_map())); }

  // In a tied model, both names refer to the tensor that is stored.
  bool has(const std::string& name) const { return find(name) != nullptr; }
  const StoredTensor& info(const std::string& name) const;
  Tensor read(const std::string& name) const;                          // in the stored precision
  void read_into(const std::string& name, Tensor& destination) const;  // converts to the destination's float dtype

 private:
  void open_single(const std::string& file);
  void open_shards(const std::string& index_file);
  std::shared_ptr<TensorSource> open_source(const std::filesystem::path& file) const;
  const TensorSource* find_exact(const std::string& name) const;
  const TensorSource* find(const std::string& name) const;
  const TensorSource& source_of(const std::string& name) const;
  std::string stored_name(const std::string& name) const;
  void check_tied_copies() const;

  std::filesystem::path folder_;
  ModelDescription description_;
  std::map<std::string, std::shared_ptr<TensorSource>> sources_;  // by tensor name
};

}  // namespace echo
