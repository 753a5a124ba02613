#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace echo {

// Bytes in order, from any source.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Reads at most `capacity` bytes (at least 1) into `buffer`, and returns their number. 0 only at the end.
  // Throws Error: io when reading fails, bad_data when the content is damaged.
  virtual size_t read(char* buffer, size_t capacity) = 0;
  // Skips the next `count` bytes. If there are fewer, the next read returns 0. This version reads and drops them. Override it
  // where there is a cheaper way, such as seeking in a file. Throws as read does.
  virtual void skip(int64_t count);
};

// A file on this machine, as it is stored. Throws Error (input_missing) when it cannot be opened.
class FileReader : public ByteReader {
 public:
  explicit FileReader(const std::filesystem::path& path);
  ~FileReader() override;
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;
  size_t read(char* buffer, size_t capacity) override;
  void skip(int64_t count) override;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Splits bytes into lines. A line ends with '\n' or at the end of the bytes. The ending is removed, including a '\r' before it.
// All functions throw as ByteReader::read does.
class LineReader {
 public:
  // Starts at byte `first_byte` of `bytes`, which must be the beginning of a line. A line may have at most `longest_line`
  // bytes.
  LineReader(std::unique_ptr<ByteReader> bytes, size_t longest_line, int64_t first_byte = 0);

  enum class Result { line, too_long, end };
  Result next(std::string& line);                                          // too_long: the line was skipped, `line` is empty
  bool skip_line();                                                        // skips one line; false at the end
  int64_t position() const { return buffer_start_ + int64_t(position_); }  // offset in bytes of the next line

 private:
  bool refill();

  std::unique_ptr<ByteReader> bytes_;
  size_t longest_line_;
  std::string buffer_;
  int64_t buffer_start_;  // offset of buffer_'s first byte
  size_t position_ = 0, filled_ = 0;
};

}  // namespace echo
