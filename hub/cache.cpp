#include "hub/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "hub/content_hash.h"

namespace echo {
namespace {

constexpr char kTag[] =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file marks a cache directory: https://bford.info/cachedir/\n";

void create_folders(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem)
    fail(ExitCode::io, folder.string(), ": cannot be created: ", problem.message(),
         "; HF_HOME or HF_HUB_CACHE can name another folder for the cache");
}

// Puts a link or file that was made under a temporary name in its place.
void put_in_place(const fs::path& temporary, const fs::path& path) {
  if (::rename(temporary.c_str(), path.c_str()) == 0) return;
  const std::string why = std::strerror(errno);
  ::unlink(temporary.c_str());
  fail(ExitCode::io, path.string(), ": cannot be written: ", why);
}

}  // namespace

fs::path HubCache::blob(const HubRepository& repository, const std::string& etag) const {
  return repository_folder(repository) / "blobs" / etag;
}

fs::path HubCache::snapshot(const HubRepository& repository, const std::string& commit) const {
  return repository_folder(repository) / "snapshots" / commit;
}

fs::path HubCache::lock_path(const HubRepository& repository, const std::string& etag) const {
  return folder_ / ".locks" / repository.folder_name() / (etag + ".lock");
}

std::optional<std::string> HubCache::commit_of(const HubRepository& repository, const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const fs::path ref = repository_folder(repository) / "refs" / revision;
  std::error_code ignored;
  if (!fs::is_regular_file(ref, ignored)) return std::nullopt;
  const std::string commit = read_file(ref);
  return is_commit(commit) ? std::optional(commit) : std::nullopt;
}

bool HubCache::has_sound_blob(const HubRepository& repository, const std::string& etag) {
  const fs::path path = blob(repository, etag);
  std::error_code ignored;
  const bool is_there = fs::is_regular_file(path, ignored);  // another process may have removed it
  {
    const std::lock_guard lock(mutex_);
    if (!is_there) sound_blobs_.erase(path);
    if (sound_blobs_.contains(path)) return true;
  }
  if (!is_there || hash_file(path, etag) != etag) return false;
  trust_blob(repository, etag);
  return true;
}

void HubCache::trust_blob(const HubRepository& repository, const std::string& etag) {
  const std::lock_guard lock(mutex_);
  sound_blobs_.insert(blob(repository, etag));
}

void HubCache::remove_blob(const HubRepository& repository, const std::string& etag) {
  std::vector<fs::path> links;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(repository_folder(repository) / "snapshots", ignored))
    if (entry.is_symlink(ignored) && fs::read_symlink(entry.path(), ignored).filename() == etag) links.push_back(entry.path());
  for (const fs::path& link : links) fs::remove(link, ignored);
  fs::remove(blob(repository, etag), ignored);
}

std::optional<fs::path> HubCache::find(const HubRepository& repository, const std::string& commit, const std::string& path) {
  const fs::path place = snapshot(repository, commit) / path;
  std::error_code ignored;
  if (!fs::is_regular_file(place, ignored)) return std::nullopt;
  const std::string etag = fs::read_symlink(place, ignored).filename().string();
  if (is_content_name(etag) && !has_sound_blob(repository, etag)) return std::nullopt;
  return place;
}

void HubCache::prepare(const HubRepository& repository) const {
  create_folders(repository_folder(repository) / "blobs");
  create_folders(folder_ / ".locks" / repository.folder_name());
  std::error_code ignored;
  if (const fs::path tag = folder_ / "CACHEDIR.TAG"; !fs::exists(tag, ignored)) write_file_atomically(tag, kTag);
}

fs::path HubCache::link(const HubRepository& repository, const std::string& commit, const std::string& path,
                        const std::string& etag) const {
  const fs::path place = snapshot(repository, commit) / path;
  create_folders(place.parent_path());
  const fs::path target = blob(repository, etag).lexically_relative(place.parent_path());
  std::error_code ignored;
  if (fs::is_symlink(place, ignored) && fs::read_symlink(place, ignored) == target) return place;
  const fs::path temporary = concat(place.string(), ".", ::getpid(), ".tmp");
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0)
    fail(ExitCode::io, place.string(), ": cannot be written: ", std::strerror(errno));
  put_in_place(temporary, place);
  return place;
}

void HubCache::write_ref(const HubRepository& repository, const std::string& revision, const std::string& commit) const {
  if (is_commit(revision) || commit_of(repository, revision) == commit) return;
  const fs::path ref = repository_folder(repository) / "refs" / revision;
  create_folders(ref.parent_path());
  write_file_atomically(ref, commit);
}

CacheLock::CacheLock(const fs::path& path, const Notice& notice)
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664)) {
  using Clock = std::chrono::steady_clock;
  if (descriptor_ < 0) fail(ExitCode::io, path.string(), ": cannot be created: ", std::strerror(errno));
  const auto begin = Clock::now();
  bool told = false;
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
    if (!told && Clock::now() - begin > std::chrono::seconds(10)) {
      if (notice) notice(path.string() + ": waiting for another process that fetches the same file");
      told = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

CacheLock::~CacheLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace echo
