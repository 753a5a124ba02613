#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "weight_files/tensor_source.h"

namespace echo {

// A state dict saved by torch.save in its zip format (pytorch_model.bin): NAME/data.pkl, a pickle of names, shapes and
// strides, and NAME/data/KEY, the bytes of each storage. The pickle reader supports only the few operations and globals that
// such a file needs, and cannot call anything else (weight_files/pickle.h). So files from any source may be opened. The
// constructor checks every tensor against the size of its storage. The bytes are read from the archive on request.
// Throws Error: input_missing; bad_data with file, tensor or global, and reason.
class TorchArchiveReader : public TensorSource {
 public:
  explicit TorchArchiveReader(const std::filesystem::path& path);
  ~TorchArchiveReader() override;

 private:
  void stream(size_t tensor, const ByteSink& sink) const override;

  struct Archive;  // the open zip file and the position of each tensor in it
  std::unique_ptr<Archive> archive_;
};

// Writes an archive for torch.load(weights_only=True) and TorchArchiveReader. Equal arguments give equal bytes. Tensors are
// f32, bf16, f64, i32 or i64. One tensor at a time is in memory. The archive is written beside `path`, renamed when complete,
// and then fsynced. Rethrows exceptions of the provider; then `path` is unchanged.
// Throws Error (io) when writing fails or the disk is full.
void write_torch_archive(const std::filesystem::path& path, const std::vector<TensorDescription>& tensors,
                         const TensorProvider& provider);
void write_torch_archive(const std::filesystem::path& path, const NamedTensors& tensors);

}  // namespace echo
