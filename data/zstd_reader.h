#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "data/byte_reader.h"

struct ZSTD_DCtx_s;

namespace echo {

// Decompresses a .zst file of one or more frames as it is read; memory is the frame's window (at most 128 MiB, the library's
// limit without an explicit one) and two buffers. Throws Error (bad_data) with the file and the byte offset in it when the
// content is damaged or ends within a frame.
class ZstdReader : public ByteReader {
 public:
  explicit ZstdReader(const std::filesystem::path& path);
  ~ZstdReader() override;
  size_t read(char* buffer, size_t capacity) override;

 private:
  std::filesystem::path path_;
  FileReader file_;
  ZSTD_DCtx_s* context_;
  std::string compressed_;
  size_t position_ = 0, filled_ = 0;
  int64_t buffer_offset_ = 0;  // of compressed_ in the file, bytes
  bool within_frame_ = false;
};

}  // namespace echo
