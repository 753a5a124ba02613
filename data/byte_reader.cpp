#include "data/byte_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace echo {

void ByteReader::skip(int64_t count) {
  std::string dropped(size_t(std::clamp<int64_t>(count, 1, 1 << 18)), '\0');
  while (count > 0) {
    const size_t read_now = read(dropped.data(), size_t(std::min<int64_t>(count, int64_t(dropped.size()))));
    if (read_now == 0) return;
    count -= int64_t(read_now);
  }
}

FileReader::FileReader(const std::filesystem::path& path)
    : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) fail(ExitCode::input_missing, path.string(), ": cannot be opened: ", std::strerror(errno));
}

FileReader::~FileReader() { ::close(descriptor_); }

size_t FileReader::read(char* buffer, size_t capacity) {
  for (;;) {
    const ssize_t count = ::read(descriptor_, buffer, capacity);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR) fail(ExitCode::io, path_.string(), ": reading failed: ", std::strerror(errno));
  }
}

void FileReader::skip(int64_t count) {
  if (::lseek(descriptor_, count, SEEK_CUR) < 0) ByteReader::skip(count);  // a pipe cannot seek
}

LineReader::LineReader(std::unique_ptr<ByteReader> bytes, size_t longest_line, int64_t first_byte)
    : bytes_(std::move(bytes)), longest_line_(longest_line), buffer_(size_t{1} << 18, '\0'), buffer_start_(first_byte) {
  if (first_byte > 0) bytes_->skip(first_byte);
}

bool LineReader::refill() {
  buffer_start_ += int64_t(filled_);
  position_ = 0;
  filled_ = bytes_->read(buffer_.data(), buffer_.size());
  return filled_ > 0;
}

LineReader::Result LineReader::next(std::string& line) {
  line.clear();
  if (position_ == filled_ && !refill()) return Result::end;
  bool too_long = false;
  do {
    const char* begin = buffer_.data() + position_;
    const size_t available = filled_ - position_;
    const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', available));
    const size_t length = newline ? size_t(newline - begin) : available;
    if (line.size() + length > longest_line_) too_long = true;
    if (too_long)
      line.clear();
    else
      line.append(begin, length);
    position_ += length + (newline ? 1 : 0);
    if (newline) break;
  } while (refill());
  if (too_long) return Result::too_long;
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return Result::line;
}

bool LineReader::skip_line() {
  if (position_ == filled_ && !refill()) return false;
  do {
    const char* begin = buffer_.data() + position_;
    if (const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', filled_ - position_))) {
      position_ += size_t(newline - begin) + 1;
      return true;
    }
  } while (refill());
  return true;
}

}  // namespace echo
