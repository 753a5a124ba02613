#include "data/remote_data.h"

#include <fnmatch.h>

#include <algorithm>

#include "base/error.h"
#include "hub/url.h"

namespace echo {
namespace {

bool is_url(const std::string& entry) { return entry.starts_with("http://") || entry.starts_with("https://"); }

bool is_pattern(const std::string& path) { return path.find_first_of("*?[") != std::string::npos; }

// True when `path` is what the address names, or lies below it.
bool is_below(const std::string& path, const std::string& named) {
  if (named.empty()) return true;
  if (!is_pattern(named)) return path == named || path.starts_with(named + "/");
  for (size_t end = path.find('/');; end = path.find('/', end + 1)) {
    if (::fnmatch(named.c_str(), path.substr(0, end).c_str(), FNM_PATHNAME | FNM_PERIOD) == 0) return true;
    if (end == path.npos) return false;
  }
}

// The order of the same files on this machine (std::filesystem::path), so that both give the same run: part by part.
bool in_local_order(const std::string& a, const std::string& b) {
  const auto rank = [](char c) { return c == '/' ? 0 : int(static_cast<unsigned char>(c)); };
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [&](char x, char y) { return rank(x) < rank(y); });
}

}  // namespace

bool is_remote(const std::string& entry) { return is_hub_address(entry) || is_url(entry); }

RemoteData::RemoteData(DataManifest manifest, const ShardSettings& settings)
    : manifest_(std::move(manifest)), store_(std::make_shared<ShardStore>(settings)) {}

std::vector<Shard> RemoteData::shards(const std::string& entry) const {
  std::vector<Shard> found;
  if (is_url(entry)) {
    for (const UrlFile& file : manifest_.urls)
      if (file.url == entry) found.push_back({shown_url(entry), file.repository(), "", "", file.etag(), file.size, file});
    return found;
  }
  const HubAddress address = parse_hub_address(entry);
  for (const ManifestSource& source : manifest_.sources) {
    if (source.repository.address() != address.repository.address() || source.revision != address.revision) continue;
    for (const ListedFile& file : source.files)
      if (is_below(file.path, address.path))
        found.push_back({HubAddress{source.repository, source.revision, file.path, false}.text(), source.repository,
                         source.commit, file.path, file.etag, file.size});
  }
  std::sort(found.begin(), found.end(), [](const Shard& a, const Shard& b) { return in_local_order(a.path, b.path); });
  return found;
}

std::vector<DataFile> RemoteData::files(const std::string& address) const {
  std::vector<DataFile> files;
  for (Shard& shard : shards(address)) {
    const auto kept = std::make_shared<const Shard>(std::move(shard));  // one for all copies of the two functions
    files.push_back({kept->name, kept->size, [store = store_, kept] { return store->open(*kept); },
                     [store = store_, kept] { store->expect(*kept); }});
  }
  if (files.empty()) fail(ExitCode::input_missing, address, ": no data file there (files ending in .jsonl, .jsonl.zst, .txt)");
  return files;
}

bool RemoteData::has_folder(const std::string& entry, const std::string& folder) const {
  if (!is_hub_address(entry)) return false;
  const HubAddress address = parse_hub_address(entry);
  if (is_pattern(address.path)) return false;
  const std::string prefix = (address.path.empty() ? "" : address.path + "/") + folder + "/";
  for (const ManifestSource& source : manifest_.sources)
    if (source.repository.address() == address.repository.address() && source.revision == address.revision)
      for (const ListedFile& file : source.files)
        if (file.path.starts_with(prefix)) return true;
  return false;
}

}  // namespace echo
