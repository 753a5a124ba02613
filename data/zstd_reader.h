#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/byte_reader.h"

struct ZSTD_DCtx_s;

namespace echo {

// Decompresses zstd data of one or more frames while it is read. It needs memory for a frame's window (at most 128 MiB, the
// library's limit without an explicit one) and two buffers. Throws Error (bad_data) with the name and the byte offset in the
// compressed data when that is damaged or ends within a frame; passes on what reading `compressed` throws.
class ZstdReader : public ByteReader {
 public:
  // name: what errors call the data.
  ZstdReader(std::unique_ptr<ByteReader> compressed, std::string name);
  ~ZstdReader() override;
  ZstdReader(const ZstdReader&) = delete;
  ZstdReader& operator=(const ZstdReader&) = delete;
  size_t read(char* buffer, size_t capacity) override;

 private:
  std::unique_ptr<ByteReader> compressed_;
  std::string name_;
  ZSTD_DCtx_s* context_;
  std::string buffer_;  // of compressed bytes
  size_t position_ = 0, filled_ = 0;
  int64_t buffer_start_ = 0;  // which of the compressed bytes buffer_ begins with
  bool within_frame_ = false;
};

}  // namespace echo
