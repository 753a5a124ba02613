#include "hub/partial_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace echo {
namespace {

[[noreturn]] void fail_writing(const fs::path& path) {
  const int problem = errno;
  fail(ExitCode::io, path.string(), ": writing failed: ", std::strerror(problem),
       problem == ENOSPC || problem == EDQUOT ? "; free some space, or choose another disk with HF_HUB_CACHE" : "");
}

}  // namespace

PartialFile::PartialFile(const fs::path& path, std::string etag, std::optional<int64_t> size)
    : path_(path), etag_(std::move(etag)), size_(size), descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail(ExitCode::io, path.string(), ": cannot be created: ", std::strerror(errno));
  try {
    have_ = ::lseek(descriptor_, 0, SEEK_END);
    if (have_ < 0 || have_ > size_.value_or(have_))
      restart();
    else
      hash_from_start();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

PartialFile::~PartialFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void PartialFile::hash_from_start() {
  hash_.reset();
  if (etag_.size() == 40 && !size_) return;
  hash_.emplace(etag_, size_.value_or(0));
  std::vector<char> buffer(size_t{1} << 20);
  for (int64_t at = 0; at < have_;) {
    const ssize_t count = ::pread(descriptor_, buffer.data(), buffer.size(), at);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(ExitCode::io, path_.string(), ": reading failed: ", std::strerror(errno));
    hash_->add({buffer.data(), size_t(count)});
    at += count;
  }
}

void PartialFile::append(std::string_view bytes) {
  if (hash_) hash_->add(bytes);
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), have_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_writing(path_);
    have_ += count;
    bytes.remove_prefix(size_t(count));
  }
}

void PartialFile::restart() {
  if (::ftruncate(descriptor_, 0) != 0) fail_writing(path_);
  have_ = 0;
  hash_from_start();
}

std::string PartialFile::digits() {
  if (!hash_) return hash_file(path_, etag_);
  return hash_->digits();
}

void PartialFile::keep_as(const fs::path& path) {
  if (::fsync(descriptor_) != 0) fail_writing(path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_writing(path_);
  if (::rename(path_.c_str(), path.c_str()) != 0)
    fail(ExitCode::io, path.string(), ": cannot be written: ", std::strerror(errno));
  sync_folder(path.parent_path());
}

}  // namespace echo
