#include "data/data_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/remote_listing.h"
#include "hub/paths.h"

namespace echo {
namespace {

// Files that are open, are being fetched, or have just been read. One more, because sizes differ.
constexpr size_t kFilesAtOnce = 13;

PathList resolve_entries(const PathList& paths, const std::string& key) {
  PathList resolved;
  for (const std::string& entry : paths.entries)
    resolved.entries.push_back(is_remote(entry) ? entry : resolve_input(entry, key).string());
  return resolved;
}

bool has_remote(const PathList& paths) { return std::any_of(paths.entries.begin(), paths.entries.end(), is_remote); }

std::vector<std::string> remote_addresses(const PathList& data, const PathList& validation) {
  std::vector<std::string> addresses;
  for (const std::string& entry : data.entries)
    if (is_remote(entry)) addresses.push_back(entry);
  addresses.emplace_back();
  for (const std::string& entry : validation.entries)
    if (is_remote(entry)) addresses.push_back(entry);
  return addresses;
}

// What the largest files take that can be here at the same time.
int64_t bytes_at_once(const DataManifest& manifest) {
  std::vector<int64_t> sizes;
  for (const ManifestSource& source : manifest.sources)
    for (const ListedFile& file : source.files) sizes.push_back(file.size);
  for (const UrlFile& url : manifest.urls) sizes.push_back(url.size);
  std::sort(sizes.begin(), sizes.end(), std::greater());
  sizes.resize(std::min(sizes.size(), kFilesAtOnce));
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

ShardSettings shard_settings(const DataSearch& search, const HubSettings& hub) {
  const fs::path folder = search.cache_folder.empty() ? hub.shard_cache : fs::path(search.cache_folder);
  return {hub, folder, int64_t(search.cache_gib * double(int64_t{1} << 30)), search.notice};
}

std::shared_ptr<RemoteData> find_remote(const DataSearch& search) {
  const HubSettings hub = read_hub_settings();
  DataManifest manifest;
  if (search.known && search.known->addresses == remote_addresses(search.data, search.validation)) {
    manifest = *search.known;
  } else {
    HubClient client(hub, search.notice);
    HubCache cache(hub.cache);
    manifest = list_remote_data(client, cache, search.data, search.validation);
  }
  const ShardSettings settings = shard_settings(search, hub);
  if (const int64_t needed = bytes_at_once(manifest); settings.most_bytes < needed)
    fail(ExitCode::config, "data.cache_gib: is ", search.cache_gib,
         ", but files that are read and fetched at the same time need ",
         std::ceil(double(needed) / double(1 << 30) * 1000) / 1000, "; give more");
  return std::make_shared<RemoteData>(std::move(manifest), settings);
}

}  // namespace

FoundData find_data(const DataSearch& search) {
  const PathList data = resolve_entries(search.data, search.key);
  const PathList validation = resolve_entries(search.validation, search.validation_key);
  if (data.empty()) resolve_input("", search.key);
  std::shared_ptr<RemoteData> remote;
  const std::string& key = has_remote(data) ? search.key : search.validation_key;
  try {
    if (has_remote(data) || has_remote(validation)) remote = find_remote(search);
  } catch (const Error& error) {
    if (error.code() == ExitCode::config) throw;
    fail(error.code(), key, ": ", error.what(), "; or name a copy on this machine with ", key, "=PATH");
  }
  return {data, resolve_data_paths(data, validation, search.validation_fraction, std::move(remote))};
}

}  // namespace echo
