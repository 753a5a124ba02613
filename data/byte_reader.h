#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

namespace echo {

// A file's bytes in order, decompressed where need be.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Fills up to `capacity` bytes; 0 at the end. Throws Error: io when reading fails, bad_data when the file is damaged.
  virtual size_t read(char* buffer, size_t capacity) = 0;
};

// The file as it is. Throws Error (input_missing) when it cannot be opened.
class FileReader : public ByteReader {
 public:
  explicit FileReader(const std::filesystem::path& path);
  ~FileReader() override;
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;
  size_t read(char* buffer, size_t capacity) override;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Cuts bytes into lines ended by '\n' (or the end of the file), without the ending, '\r' before it included.
class LineReader {
 public:
  LineReader(std::unique_ptr<ByteReader> bytes, size_t longest_line);

  enum class Result { line, too_long, end };
  Result next(std::string& line);  // too_long: the line was skipped, `line` is empty
  bool skip();                     // passes over one line without keeping it; false at the end

 private:
  bool refill();

  std::unique_ptr<ByteReader> bytes_;
  size_t longest_line_;
  std::string buffer_;
  size_t position_ = 0, filled_ = 0;
};

}  // namespace echo
