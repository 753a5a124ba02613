#include "data/remote_listing.h"

#include <fnmatch.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "data/remote_data.h"
#include "data/source_factory.h"
#include "hub/content_hash.h"
#include "hub/file_download.h"
#include "hub/resolve.h"

namespace echo {
namespace {

constexpr int kAttempts = 2;  // a person waits for the first request

bool has_wildcard(const std::string& path) { return path.find_first_of("*?[") != std::string::npos; }

std::string parent_of(const std::string& path) { return path.find('/') == path.npos ? "" : path.substr(0, path.rfind('/')); }

// Adds all files below the folders to `source`. Two folders are listed at the same time.
void add_folders(HubClient& client, ManifestSource& source, const std::vector<std::string>& folders, const std::string& what) {
  std::vector<std::vector<ListedFile>> listings(folders.size());
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr problem;
  const auto work = [&] {
    try {
      HubClient own(client.settings(), [&](const std::string& line) {
        const std::lock_guard lock(mutex);
        client.tell(line);
      });
      for (size_t i; (i = next++) < folders.size();)
        listings[i] = list_files(own, source.repository, source.commit, folders[i], what);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!problem) problem = std::current_exception();
      next = folders.size();
    }
  };
  std::thread second(work);
  work();
  second.join();
  if (problem) std::rethrow_exception(problem);
  for (std::vector<ListedFile>& listing : listings) source.files.insert(source.files.end(), listing.begin(), listing.end());
}

// The files in and below a folder. One request tells its folders, so that each of them can be listed by itself.
void add_folder(HubClient& client, ManifestSource& source, const std::string& folder, const std::string& what) {
  FolderContent content = list_folder(client, source.repository, source.commit, folder, what);
  source.files.insert(source.files.end(), content.files.begin(), content.files.end());
  add_folders(client, source, content.folders, what);
}

void add_file(HubClient& client, ManifestSource& source, const std::string& path, const std::string& what) {
  for (Patience patience(what, client.notice(), kMostAttempts, client.settings().stop);;) {
    try {
      const ResolvedFile file =
          resolve_file(client, source.repository, source.commit, path, what, [](const std::string&) { return true; });
      source.files.push_back({path, file.size.value_or(-1), file.etag});
      return;
    } catch (const TemporaryFailure& failure) {
      patience.failed(failure);
    }
  }
}

// The folders of a pattern that can hold matches: those that its next part matches.
void add_pattern(HubClient& client, ManifestSource& source, const std::string& pattern, const std::string& what) {
  const size_t wildcard = pattern.find_first_of("*?[");
  const std::string folder = parent_of(pattern.substr(0, wildcard));
  const size_t end = pattern.find('/', wildcard);
  FolderContent content = list_folder(client, source.repository, source.commit, folder, what);
  source.files.insert(source.files.end(), content.files.begin(), content.files.end());
  const std::string first = pattern.substr(0, end);
  std::erase_if(content.folders, [&](const std::string& name) {
    return ::fnmatch(first.c_str(), name.c_str(), FNM_PATHNAME | FNM_PERIOD) != 0;
  });
  add_folders(client, source, content.folders, what);
}

// Lists what an address names. only_train: leave out what a folder has beside train/ (and validation/).
void add_address(HubClient& client, ManifestSource& source, const HubAddress& address, bool only_train, bool with_validation) {
  const std::string what = address.text();
  if (has_wildcard(address.path)) return add_pattern(client, source, address.path, what);
  if (is_data_file(address.path)) return add_file(client, source, address.path, what);
  FolderContent content = list_folder(client, source.repository, source.commit, address.path, what);
  const std::string prefix = address.path.empty() ? "" : address.path + "/";
  const auto has = [&](const char* name) {
    return std::find(content.folders.begin(), content.folders.end(), prefix + name) != content.folders.end();
  };
  if (only_train && has("train")) {
    add_folder(client, source, prefix + "train", what);
    if (with_validation && has("validation")) add_folder(client, source, prefix + "validation", what);
    return;
  }
  source.files.insert(source.files.end(), content.files.begin(), content.files.end());
  add_folders(client, source, content.folders, what);
}

// The files of a repository that the cache has. Nobody knows whether these are all of it.
void add_cached(HubClient& client, const HubCache& cache, ManifestSource& source, const std::string& what) {
  const fs::path folder = cache.snapshot(source.repository, source.commit);
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(folder, ignored)) {
    const std::string etag = fs::read_symlink(entry.path(), ignored).filename().string();
    const auto size = int64_t(entry.file_size(ignored));
    if (entry.is_regular_file(ignored) && is_content_name(etag))
      source.files.push_back({entry.path().lexically_relative(folder).string(), size, etag});
  }
  if (source.files.empty()) fail_offline(cache, what);
  client.tell(what + ": offline; taking the files that the cache has");
}

void finish(ManifestSource& source) {
  auto& files = source.files;
  std::erase_if(files, [](const ListedFile& file) { return !is_data_file(file.path); });
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return in_natural_order(a.path, b.path); });
  files.erase(std::unique(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path == b.path; }),
              files.end());
}

}  // namespace

DataManifest list_remote_data(HubClient& client, HubCache& cache, const PathList& data, const PathList& validation) {
  DataManifest manifest;
  const auto source_of = [&](const HubAddress& address) -> ManifestSource& {
    for (ManifestSource& source : manifest.sources)
      if (source.repository.address() == address.repository.address() && source.revision == address.revision) return source;
    ManifestSource source{address.repository, address.revision, "", {}};
    if (is_commit(address.revision))
      source.commit = address.revision;
    else if (!client.settings().offline)
      source.commit = fetch_commit(client, address.repository, address.revision, kAttempts);
    else if (const auto commit = cache.commit_of(address.repository, address.revision))
      source.commit = *commit;
    else
      fail_offline(cache, address.text());
    manifest.sources.push_back(std::move(source));
    if (client.settings().offline) add_cached(client, cache, manifest.sources.back(), address.text());
    return manifest.sources.back();
  };
  const auto add = [&](const std::string& entry, bool is_training) {
    manifest.addresses.push_back(entry);
    if (!is_hub_address(entry)) {
      if (!is_data_file(entry.substr(0, entry.find_first_of("?#"))))
        fail(ExitCode::config, entry, ": names no data file (its name must end in .jsonl, .jsonl.zst or .txt)");
      if (client.settings().offline) fail_offline(cache, entry);
      manifest.urls.push_back(describe_url(client, entry));
      return;
    }
    const HubAddress address = parse_hub_address(entry);
    if (!address.repository.is_dataset)
      fail(ExitCode::config, entry, ": names a model; data is at hf://datasets/ORGANISATION/NAME");
    ManifestSource& source = source_of(address);
    if (!client.settings().offline) add_address(client, source, address, is_training, validation.empty());
  };
  for (const std::string& entry : data.entries)
    if (is_remote(entry)) add(entry, true);
  manifest.addresses.push_back("");  // what follows is held-out
  for (const std::string& entry : validation.entries)
    if (is_remote(entry)) add(entry, false);
  for (ManifestSource& source : manifest.sources) finish(source);
  return manifest;
}

std::vector<std::string> moved_revisions(const HubSettings& settings, const DataManifest& manifest) {
  std::vector<std::string> lines;
  if (settings.offline) return lines;
  HubClient client(settings, {});
  for (const ManifestSource& source : manifest.sources) {
    if (is_commit(source.revision)) continue;
    try {
      const std::string now = fetch_commit(client, source.repository, source.revision, 1);
      if (now != source.commit)
        lines.push_back(concat(source.repository.address(), ": data pinned to ", source.commit.substr(0, 7), ", ",
                               source.revision, " is now ", now.substr(0, 7)));
    } catch (const Error&) {  // the run does not need to know
    }
  }
  return lines;
}

}  // namespace echo
