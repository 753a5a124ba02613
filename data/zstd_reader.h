#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/byte_reader.h"

struct ZSTD_DCtx_s;

namespace echo {

// Decompresses zstd data of one or more frames while reading. It needs memory for a frame's window (at most 128 MiB, the
// library's default limit) and two buffers. Throws Error (bad_data), with the name and the byte offset in the compressed data,
// when the data is damaged or ends inside a frame. Passes on the errors of reading `compressed`.
class ZstdReader : public ByteReader {
 public:
  // name: the name of the data in errors.
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
  int64_t buffer_start_ = 0;  // offset in the compressed bytes of buffer_'s first byte
  bool within_frame_ = false;
};

}  // namespace echo
