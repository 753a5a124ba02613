#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor/tensor.h"
#include "weight_files/stored_type.h"

namespace echo {

// A tensor in a file, as the file's header describes it.
struct StoredTensor {
  std::string name;
  StoredType type = StoredType::f32;
  Shape shape;
  std::filesystem::path file;
  int64_t bytes() const { return shape.elements() * size_of(type); }
};

// A tensor to be written.
struct TensorDescription {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
};

// Returns the tensor of a description, with its shape and dtype. It is called only when that tensor is written, so a file can
// be larger than memory.
using TensorProvider = std::function<Tensor(const TensorDescription&)>;

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// The tensors of one file by name, in any format. The constructor has checked the header, so the bytes of every tensor are
// inside the file. Not for several threads at once.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  TensorSource(const TensorSource&) = delete;
  TensorSource& operator=(const TensorSource&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // in the order of the file
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return index_.contains(name); }
  const StoredTensor& info(const std::string& name) const;  // throws Error (bad_data) when there is none

  // A copy on the CPU, in native_dtype() of the stored type.
  Tensor read(const std::string& name) const;

  // Fills `destination` (contiguous, the stored shape, any device). Stored floats are converted to any float dtype, stored
  // integers to i32, i64 or their own type. Reads part by part, and releases the pages that were read, so that memory never has
  // two copies. Throws Error (bad_data) when shapes differ, when a float would become an integer or the reverse, or when an
  // integer does not fit.
  void read_into(const std::string& name, Tensor& destination) const;

 protected:
  explicit TensorSource(std::filesystem::path path) : path_(std::move(path)) {}
  // Throws Error (bad_data) when two tensors have the same name.
  void set_tensors(std::vector<StoredTensor> tensors);

  // Calls `sink` with the tensor's bytes, part by part. Elements are in row-major order, and each part has whole elements.
  using ByteSink = std::function<void(std::span<const std::byte>)>;
  virtual void stream(size_t tensor, const ByteSink& sink) const = 0;

 private:
  size_t index_of(const std::string& name) const;

  std::filesystem::path path_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

// Calls `provider`, and returns its tensor as contiguous and on the CPU. Throws Error when the shape or dtype is not that of
// the description.
Tensor provided(const TensorProvider& provider, const TensorDescription& description);

// Descriptions of existing tensors, and a provider that returns them. The provider keeps a reference to `tensors`.
std::vector<TensorDescription> describe(const NamedTensors& tensors);
TensorProvider provider_of(const NamedTensors& tensors);

}  // namespace echo
