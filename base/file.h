#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace echo {

namespace fs = std::filesystem;

// Returns the whole content of a file. Throws Error: input_missing when it cannot be opened, io when reading fails.
std::string read_file(const fs::path& path);

// Calls `sink` with the content of a file, part by part. Throws the same errors. A disk that cannot be read is an error here,
// but with MappedFile it ends the process.
void read_in_parts(const fs::path& path, const std::function<void(std::string_view part)>& sink);

// Writes `content` so that `path` holds either its old content or all of the new content, even after a crash. It writes a
// temporary file beside `path`, calls fsync, renames it, and calls fsync on the folder. Throws Error (io) and removes the
// temporary file.
void write_file_atomically(const fs::path& path, std::string_view content);

// A file that is written from start to end. All functions throw Error (io) with the path, for example when the disk is full.
class FileWriter {
 public:
  enum class Start { empty, append };  // what happens to a file that exists: it is truncated, or its content stays
  explicit FileWriter(const fs::path& path, Start start = Start::empty);  // creates a file that does not exist
  ~FileWriter();                                                          // closes; ignores errors, so call finish() first
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void write(const void* bytes, size_t count);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void finish();  // fsync and close

 private:
  fs::path path_;
  int descriptor_ = -1;
};

// Makes a rename or a new entry in `folder` durable (fsync). Throws Error (io).
void sync_folder(const fs::path& folder);

// Makes what was written to a file so far durable, by any process or thread. Throws Error (io).
void sync_file(const fs::path& path);

// A file mapped read-only into memory. The system loads a page when it is first touched. Throws Error (input_missing, io).
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Tells the system that these pages are not needed again. Loading a checkpoint uses it, because it reads each page once.
  void release(size_t offset, size_t count) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// An advisory lock on `path`, which is created when missing. The object holds the lock while it lives. The system frees the
// lock when the process ends in any way. Throws Error: usage when another process holds the lock, io when `path` cannot be
// created.
class FileLock {
 public:
  explicit FileLock(const fs::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace echo
