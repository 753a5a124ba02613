#include "data/zstd_reader.h"

#include <zstd.h>

#include "base/error.h"

namespace echo {

ZstdReader::ZstdReader(std::unique_ptr<ByteReader> compressed, std::string name)
    : compressed_(std::move(compressed)),
      name_(std::move(name)),
      context_(ZSTD_createDCtx()),
      buffer_(ZSTD_DStreamInSize(), '\0') {
  if (context_ == nullptr) fail(ExitCode::device, name_, ": no memory to decompress it");
}

ZstdReader::~ZstdReader() { ZSTD_freeDCtx(context_); }

size_t ZstdReader::read(char* buffer, size_t capacity) {
  ZSTD_outBuffer output = {buffer, capacity, 0};
  while (output.pos == 0) {
    bool at_end = false;
    if (position_ == filled_) {
      buffer_start_ += static_cast<int64_t>(filled_);
      position_ = 0;
      filled_ = compressed_->read(buffer_.data(), buffer_.size());
      at_end = filled_ == 0;
      if (at_end && !within_frame_) return 0;
    }
    // At the end of the input the context may still have decompressed bytes. One more call without input returns them.
    ZSTD_inBuffer input = {buffer_.data(), filled_, position_};
    const size_t status = ZSTD_decompressStream(context_, &output, &input);
    position_ = input.pos;
    if (ZSTD_isError(status))
      fail(ExitCode::bad_data, name_, ": damaged at byte ", buffer_start_ + static_cast<int64_t>(position_),
           " of the compressed file: ", ZSTD_getErrorName(status));
    within_frame_ = status != 0;
    if (at_end && output.pos == 0)
      fail(ExitCode::bad_data, name_, ": truncated: the file ends at byte ", buffer_start_, " within a compressed frame");
  }
  return output.pos;
}

}  // namespace echo
