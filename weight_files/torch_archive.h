#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "weight_files/tensor_source.h"

namespace echo {

// A state dict saved by torch.save in its zip format (pytorch_model.bin): NAME/data.pkl, a pickle of names, shapes and
// strides, and NAME/data/KEY, the bytes of each storage. The pickle is read by a small machine that knows the few
// operations and globals such a file needs and can call nothing else (weight_files/pickle.h), so a file from anywhere may be
// opened. Every tensor is checked against the size of its storage on opening; bytes are read from the archive when
// asked for.
// Throws Error: input_missing; bad_data naming file, tensor or global, and reason.
class TorchArchiveReader : public TensorSource {
 public:
  explicit TorchArchiveReader(const std::filesystem::path& path);
  ~TorchArchiveReader() override;

 private:
  void stream(size_t tensor, const ByteSink& sink) const override;

  struct Archive;  // the open zip file and where each tensor lies in it
  std::unique_ptr<Archive> archive_;
};

// Writes an archive that torch.load(weights_only=True) and TorchArchiveReader read; equal arguments give equal bytes.
// Tensors are f32, bf16, f64, i32 or i64, one is held at a time. Written beside `path` first and renamed when complete,
// then fsynced.
// Throws Error (io) when writing fails or the disk is full.
void write_torch_archive(const std::filesystem::path& path, const std::vector<TensorDescription>& tensors,
                         const TensorProvider& provider);
void write_torch_archive(const std::filesystem::path& path, const NamedTensors& tensors);

}  // namespace echo
