#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "hub/cache.h"
#include "hub/hub_client.h"

namespace echo {

// Called as bytes arrive: how many of the file are there, and its size (0 while unknown).
using ByteProgress = std::function<void(int64_t have, int64_t size)>;

struct CachedFile {
  std::filesystem::path path;  // in the cache: snapshots/COMMIT/PATH
  std::string commit;
};

// Throws Error (input_missing): HF_HUB_OFFLINE is set and the cache does not have `what`, an address.
[[noreturn]] void fail_offline(const HubCache& cache, const std::string& what);

// Brings one file into the cache, and its path back. A file that is there is not fetched again: at a commit no request is
// made, at a branch one, to see whether it moved. An interrupted download goes on where it ended, also in a later run. The
// content counts only when its hash is the one that the hub names. Throws Error: bad_data (the hash was wrong three times),
// input_missing, unavailable, no_permission, io.
CachedFile download_file(HubClient& client, HubCache& cache, const HubRepository& repository, const std::string& revision,
                         const std::string& path, const ByteProgress& progress);

// A file at an http(s) address outside the hub. Nobody names the hash of its content, so its size and what its server says
// about its version must do.
struct UrlFile {
  std::string url;
  int64_t size = 0;
  std::string version;  // its ETag, else Last-Modified, else empty

  HubRepository repository() const;  // under which the cache keeps it: urls/HOST
  std::string etag() const;          // the name of its content there
};

// Asks for size and version. Throws Error: input_missing, unavailable (also when the server does not tell the size).
UrlFile describe_url(HubClient& client, const std::string& url);

// Brings the file into the cache, and returns the path of its content. Throws Error: bad_data when it has another version or
// size now, input_missing, unavailable, no_permission, io.
std::filesystem::path download_url(HubClient& client, HubCache& cache, const UrlFile& file, const ByteProgress& progress);

}  // namespace echo
