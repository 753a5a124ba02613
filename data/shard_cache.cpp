#include "data/shard_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "hub/content_hash.h"

namespace echo {
namespace {

constexpr std::string_view kPartial = ".echoatt.incomplete";

// The whole size of a file that is being fetched is written into its lock file.
int64_t reserved_bytes(const fs::path& lock) {
  std::ifstream file(lock);
  int64_t bytes = 0;
  file >> bytes;
  return file ? bytes : 0;
}

void write_reservation(const fs::path& lock, int64_t bytes) {
  std::ofstream file(lock, std::ios::in | std::ios::out);  // keeps the file, because other processes may wait for its lock
  if (!file.is_open()) file.open(lock);
  file << bytes << '\n' << std::flush;
}

int open_for_lock(const fs::path& path) { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }

}  // namespace

HeldShard::HeldShard(const fs::path& path) : path_(path), descriptor_(open_for_lock(path)) {
  if (descriptor_ < 0) return;
  ::flock(descriptor_, LOCK_SH);  // fails where the file system has no locks. An open file can be read to its end anyway
  struct stat state {};
  if (::fstat(descriptor_, &state) != 0 || state.st_nlink == 0) {  // removed before the lock was there
    ::close(std::exchange(descriptor_, -1));
    return;
  }
}

HeldShard::~HeldShard() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

HeldShard::HeldShard(HeldShard&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

HeldShard& HeldShard::operator=(HeldShard&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

struct ShardCache::Stored {
  HubRepository repository;
  std::string etag;
  fs::path path;
  int64_t bytes = 0;
  bool partial = false;
  fs::file_time_type used;
};

ShardCache::ShardCache(const HubSettings& hub, fs::path folder, int64_t most_bytes)
    : hub_cache_(hub.cache), cache_(std::move(folder)), most_bytes_(most_bytes) {}

std::vector<ShardCache::Stored> ShardCache::stored() const {
  std::vector<Stored> all;
  std::error_code ignored;
  for (const auto& folder : fs::directory_iterator(cache_.folder(), ignored)) {
    const std::string name = folder.path().filename().string();
    const size_t first = name.find("--"), second = first == name.npos ? name.npos : name.find("--", first + 2);
    if (second == name.npos) continue;
    const HubRepository repository{name.starts_with("datasets--"),
                                   concat(name.substr(first + 2, second - first - 2), "/", name.substr(second + 2))};
    for (const auto& entry : fs::directory_iterator(folder.path() / "blobs", ignored)) {
      Stored file{repository, entry.path().filename().string(), entry.path(), 0, false, entry.last_write_time(ignored)};
      file.partial = file.etag.ends_with(kPartial);
      if (file.partial) file.etag.resize(file.etag.size() - kPartial.size());
      if (!is_content_name(file.etag)) continue;
      file.bytes = int64_t(entry.file_size(ignored));
      if (file.partial) file.bytes = std::max(file.bytes, reserved_bytes(cache_.lock_path(repository, file.etag)));
      all.push_back(std::move(file));
    }
  }
  return all;
}

// Removes a shard unless somebody holds it, or fetches it now.
bool ShardCache::remove(const Stored& stored) {
  const int descriptor = open_for_lock(stored.partial ? cache_.lock_path(stored.repository, stored.etag) : stored.path);
  if (descriptor < 0) return false;
  const bool free = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  std::error_code ignored;
  if (free && stored.partial)
    fs::remove(stored.path, ignored);
  else if (free)
    cache_.remove_blob(stored.repository, stored.etag);
  ::close(descriptor);
  return free;
}

bool ShardCache::make_room(const Shard& shard, const Notice& notice) {
  std::error_code ignored;
  if (!shard.url && hub_cache_.find(shard.repository, shard.commit, shard.path)) return true;
  cache_.prepare(shard.repository);
  const CacheLock lock(cache_.folder() / ".locks/room.lock", notice);  // one process at a time counts and reserves
  int64_t total = shard.size;
  std::vector<Stored> all = stored();
  for (const Stored& file : all) {
    if (file.etag == shard.etag && !file.partial) return true;
    if (file.etag != shard.etag) total += file.bytes;
  }
  std::sort(all.begin(), all.end(), [](const Stored& a, const Stored& b) { return a.used < b.used; });
  for (const Stored& file : all) {
    if (total <= most_bytes_) break;
    if (file.etag != shard.etag && remove(file)) total -= file.bytes;
  }
  if (total > most_bytes_) return false;
  write_reservation(cache_.lock_path(shard.repository, shard.etag), shard.size);
  std::ofstream(cache_.blob(shard.repository, shard.etag).string() + std::string(kPartial), std::ios::app);
  return true;
}

// A commit never changes, but a hub that is no longer the same may say something else.
void ShardCache::download_shard(HubClient& client, const Shard& shard, const ByteProgress& progress) {
  const CachedFile file = download_file(client, cache_, shard.repository, shard.commit, shard.path, progress);
  std::error_code ignored;
  const std::string etag = fs::read_symlink(file.path, ignored).filename().string();
  if (!etag.empty() && etag != shard.etag)
    fail(ExitCode::bad_data, shard.name, ": its content is now ", etag, " at commit ", shard.commit, ", and was ", shard.etag,
         " when the run began");
}

HeldShard ShardCache::fetch(HubClient& client, const Shard& shard, const ByteProgress& progress) {
  const auto own = shard.url ? std::nullopt : hub_cache_.find(shard.repository, shard.commit, shard.path);
  if (own) return HeldShard(*own);
  for (;;) {
    if (shard.url)
      download_url(client, cache_, *shard.url, progress);
    else
      download_shard(client, shard, progress);
    HeldShard held(cache_.blob(shard.repository, shard.etag));
    if (!held) continue;  // another process has just removed it
    std::error_code ignored;
    fs::last_write_time(held.path(), fs::file_time_type::clock::now(), ignored);  // of its last use
    return held;
  }
}

}  // namespace echo
