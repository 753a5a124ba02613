#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace echo {
namespace {

std::string reason() { return std::strerror(errno); }

int open_for_reading(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(ExitCode::input_missing, path.string(), ": cannot be opened: ", reason());
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(descriptor);
    fail(ExitCode::input_missing, path.string(), ": is a folder, a file is expected");
  }
  return descriptor;
}

void open_and_sync(const fs::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (descriptor < 0) fail(ExitCode::io, path.string(), ": cannot be opened: ", reason());
  const int result = ::fsync(descriptor);
  const std::string why = result == 0 ? "" : reason();
  ::close(descriptor);
  if (result != 0) fail(ExitCode::io, path.string(), ": fsync failed: ", why);
}

}  // namespace

std::string read_file(const fs::path& path) {
  std::string content;
  read_in_parts(path, [&](std::string_view part) { content += part; });
  return content;
}

void read_in_parts(const fs::path& path, const std::function<void(std::string_view part)>& sink) {
  struct Descriptor {
    int number;
    ~Descriptor() { ::close(number); }
  };
  const Descriptor file{open_for_reading(path)};
  char buffer[1 << 16];
  ssize_t count;
  while ((count = ::read(file.number, buffer, sizeof buffer)) != 0) {
    if (count > 0)
      sink({buffer, size_t(count)});
    else if (errno != EINTR)
      fail(ExitCode::io, path.string(), ": reading failed: ", reason());
  }
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".tmp-" + std::to_string(::getpid());
  try {
    FileWriter writer(temporary);
    writer.write(content);
    writer.finish();
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail(ExitCode::io, path.string(), ": cannot be replaced: ", reason());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(path.parent_path());
}

FileWriter::FileWriter(const fs::path& path, Start start)
    : path_(path),
      descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (start == Start::append ? O_APPEND : O_TRUNC), 0644)) {
  if (descriptor_ < 0) fail(ExitCode::io, path_.string(), ": cannot be created: ", reason());
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::write(const void* bytes, size_t count) {
  const char* at = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::write(descriptor_, at, count);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(ExitCode::io, path_.string(), ": writing failed: ", reason());
    }
    at += written;
    count -= size_t(written);
  }
}

void FileWriter::finish() {
  const bool synced = ::fsync(descriptor_) == 0;
  const std::string why = synced ? "" : reason();
  const bool closed = ::close(descriptor_) == 0;
  descriptor_ = -1;
  if (!synced) fail(ExitCode::io, path_.string(), ": writing failed: ", why);
  if (!closed) fail(ExitCode::io, path_.string(), ": closing failed: ", reason());
}

void sync_folder(const fs::path& folder) { open_and_sync(folder.empty() ? fs::path(".") : folder, O_DIRECTORY); }

void sync_file(const fs::path& path) { open_and_sync(path, 0); }

MappedFile::MappedFile(const fs::path& path) {
  const int descriptor = open_for_reading(path);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    const std::string why = reason();
    ::close(descriptor);
    fail(ExitCode::io, path.string(), ": reading failed: ", why);
  }
  size_ = size_t(status.st_size);
  if (size_ > 0) {
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    const std::string why = address == MAP_FAILED ? reason() : "";
    ::close(descriptor);
    if (address == MAP_FAILED) fail(ExitCode::io, path.string(), ": cannot be mapped: ", why);
    data_ = static_cast<const std::byte*>(address);
  } else {
    ::close(descriptor);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(size_t offset, size_t count) const {
  const size_t page = size_t(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page, end = (offset + count) / page * page;
  if (data_ != nullptr && begin < end && end <= size_)
    ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

FileLock::FileLock(const fs::path& path) : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) fail(ExitCode::io, path.string(), ": cannot be created: ", reason());
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    descriptor_ = -1;
    fail(ExitCode::usage, path.parent_path().string(),
         ": another process is writing here; wait for it, or choose another output folder");
  }
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace echo
