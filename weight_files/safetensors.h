#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "weight_files/tensor_source.h"

namespace echo {

// A safetensors file: 8 bytes with the length n of the header, n bytes of JSON
//   {"__metadata__": {"key": "text"}, "name": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [begin, end]}, ...}
// and the bytes of the tensors, to which the offsets refer, without gaps or overlaps up to the end of the file. The whole
// header is checked before any tensor is allocated. The file is mapped, and tensors are read on request. Throws Error:
// input_missing; bad_data with file, tensor and reason.
// Source: the format's description in the safetensors project of Hugging Face.
class SafetensorsReader : public TensorSource {
 public:
  explicit SafetensorsReader(const std::filesystem::path& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void stream(size_t tensor, const ByteSink& sink) const override;

  MappedFile file_;
  std::map<std::string, std::string> metadata_;
  std::vector<size_t> begins_;  // first byte of each tensor in the file
};

// Writes the tensors in the given order and fsyncs the file. Equal arguments give equal bytes. At most one tensor is in memory
// in addition to the arguments: the provider's last one, or a contiguous copy. Throws Error (io) when writing fails or the disk
// is full.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorDescription>& tensors,
                       const TensorProvider& provider, const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace echo
