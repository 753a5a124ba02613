#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "hub/cache.h"
#include "hub/file_download.h"

namespace echo {

// A file of a repository at a commit, or the file of an http(s) address.
struct Shard {
  std::string name;  // its address
  HubRepository repository;
  std::string commit, path;
  std::string etag;  // the hash of its content
  int64_t size = 0;
  std::optional<UrlFile> url = {};
};

// A file that is not removed while the object lives: a shared lock on it, which all processes of the machine respect.
class HeldShard {
 public:
  HeldShard() = default;
  // Holds nothing when the file is not there or is being removed.
  explicit HeldShard(const std::filesystem::path& path);
  ~HeldShard();
  HeldShard(HeldShard&& other) noexcept;
  HeldShard& operator=(HeldShard&& other) noexcept;

  explicit operator bool() const { return descriptor_ >= 0; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// A folder of shards in the layout of the hub's cache, with a bound on its size. Shards that nobody holds are removed when room
// is needed, the one whose use is longest ago first. Several processes may use one folder, and threads one object.
class ShardCache {
 public:
  ShardCache(const HubSettings& hub, std::filesystem::path folder, int64_t most_bytes);

  // Makes room for a shard and reserves it. False when there is none, because the shards that are held take it.
  bool make_room(const Shard& shard, const Notice& notice);

  // Fetches a shard, or finds it, here or in the cache of the hub's own client, whose files are never removed.
  // Throws what download_file throws.
  HeldShard fetch(HubClient& client, const Shard& shard, const ByteProgress& progress);

 private:
  struct Stored;
  std::vector<Stored> stored() const;
  bool remove(const Stored& stored);
  void download_shard(HubClient& client, const Shard& shard, const ByteProgress& progress);

  HubCache hub_cache_, cache_;
  int64_t most_bytes_;
};

}  // namespace echo
