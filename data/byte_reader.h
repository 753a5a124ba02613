#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace echo {

// Bytes in order, from wherever they come.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Fills up to `capacity` bytes (at least 1) of `buffer` and returns how many; 0 only at the end.
  // Throws Error: io when reading fails, bad_data when the content is damaged.
  virtual size_t read(char* buffer, size_t capacity) = 0;
  // Passes over the next `count` bytes; when there are fewer, the next read returns 0. This one reads them and drops them.
  // Override it where there is a cheaper way, such as seeking in a file. Throws as read does.
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

// Cuts bytes into lines. A line ends with '\n' or at the end of the bytes; the ending is removed, and a '\r' before it.
// All functions throw as ByteReader::read does.
class LineReader {
 public:
  // Starts at byte `first_byte` of `bytes`, which is where a line begins. A line may have `longest_line` bytes.
  LineReader(std::unique_ptr<ByteReader> bytes, size_t longest_line, int64_t first_byte = 0);

  enum class Result { line, too_long, end };
  Result next(std::string& line);  // too_long: the line was skipped, `line` is empty
  bool skip_line();                // passes over one line without keeping it; false at the end
  int64_t position() const { return buffer_start_ + int64_t(position_); }  // where the next line begins, in bytes

 private:
  bool refill();

  std::unique_ptr<ByteReader> bytes_;
  size_t longest_line_;
  std::string buffer_;
  int64_t buffer_start_;  // which of the bytes buffer_ begins with
  size_t position_ = 0, filled_ = 0;
};

}  // namespace echo
