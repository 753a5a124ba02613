#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "hub/address.h"
#include "hub/retry.h"

namespace echo {

// The hub's cache on the disk, in the layout of the hub's own client, so that both can share one:
//   models--ORGANISATION--NAME/blobs/ETAG             contents, named by their hash
//                              snapshots/COMMIT/PATH  a link to the content of that file at that commit
//                              refs/REVISION          the commit that a branch or tag had when it was last asked for
//   .locks/models--ORGANISATION--NAME/ETAG.lock       held while that content is written
// Files of a snapshot can be missing, so presence is a matter of each file. Writing functions throw Error (io). Several
// threads may use one object.
class HubCache {
 public:
  explicit HubCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path repository_folder(const HubRepository& repository) const { return folder_ / repository.folder_name(); }
  std::filesystem::path blob(const HubRepository& repository, const std::string& etag) const;
  std::filesystem::path snapshot(const HubRepository& repository, const std::string& commit) const;

  // The commit that a revision had when it was last asked for. A commit is its own.
  std::optional<std::string> commit_of(const HubRepository& repository, const std::string& revision) const;

  // True when the content of that hash is there and right. It is hashed the first time, because another program may have
  // stored it.
  bool has_sound_blob(const HubRepository& repository, const std::string& etag);
  // Removes a content and the links of all snapshots to it, links first. Only for a folder in which all files are ours.
  void remove_blob(const HubRepository& repository, const std::string& etag);
  void trust_blob(const HubRepository& repository, const std::string& etag);  // it was hashed while it arrived

  // The file of a snapshot, when it is there and its content is right. A plain file in place of a link cannot be checked.
  std::optional<std::filesystem::path> find(const HubRepository& repository, const std::string& commit,
                                            const std::string& path);

  // Creates the folders for a content and its lock, and the tag that makes backups skip the cache.
  void prepare(const HubRepository& repository) const;

  // Makes snapshots/COMMIT/PATH a link to the content, and returns its path.
  std::filesystem::path link(const HubRepository& repository, const std::string& commit, const std::string& path,
                             const std::string& etag) const;

  // Stores what commit a branch or tag has. Does nothing for a commit.
  void write_ref(const HubRepository& repository, const std::string& revision, const std::string& commit) const;

  std::filesystem::path lock_path(const HubRepository& repository, const std::string& etag) const;

 private:
  std::filesystem::path folder_;
  std::mutex mutex_;  // guards sound_blobs_
  std::set<std::filesystem::path> sound_blobs_;
};

// Holds the lock of one content while it lives. The hub's own client uses the same locks (flock). Waits for another process,
// and says so after ten seconds. Where the file system has no locks it does nothing: then the hash alone keeps the cache
// right.
class CacheLock {
 public:
  CacheLock(const std::filesystem::path& path, const Notice& notice);
  ~CacheLock();
  CacheLock(const CacheLock&) = delete;
  CacheLock& operator=(const CacheLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace echo
