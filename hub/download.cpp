#include "hub/download.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "hub/listing.h"

namespace echo {
namespace {

fs::path folder_of(const HubCache& cache, const HubAddress& address, const std::string& commit) {
  const fs::path snapshot = cache.snapshot(address.repository, commit);
  return address.path.empty() ? snapshot : snapshot / address.path;
}

// The files below a folder of a snapshot, which are those that were fetched.
std::vector<std::string> files_in_cache(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(folder, ignored))
    if (entry.is_regular_file(ignored)) files.push_back(entry.path().lexically_relative(folder).string());
  std::sort(files.begin(), files.end());
  return files;
}

// What the cache has of a folder, if anything. Nobody knows whether these are all files of it.
std::optional<Downloaded> folder_in_cache(HubCache& cache, const HubAddress& address) {
  const auto commit = cache.commit_of(address.repository, address.revision);
  if (!commit) return std::nullopt;
  Downloaded found{folder_of(cache, address, *commit), *commit, {}};
  found.files = files_in_cache(found.path);
  for (const std::string& file : found.files)
    if (!cache.find(address.repository, *commit, (fs::path(address.path) / file).string()))
      fail(ExitCode::bad_data, (found.path / file).string(), ": its content is damaged; fetch it again with `./download ",
           address.text(), "`");
  if (found.files.empty()) return std::nullopt;
  return found;
}

// The commit of an address and its files. Nothing when the hub cannot be reached, but the cache may have them (`in_cache`).
struct FolderListing {
  std::string commit;
  std::vector<ListedFile> files;
};

std::optional<FolderListing> list_folder(HubClient& client, const HubAddress& address, int attempts, bool in_cache) {
  const HubRepository& repository = address.repository;
  try {
    FolderListing listing;
    listing.commit =
        is_commit(address.revision) ? address.revision : fetch_commit(client, repository, address.revision, attempts);
    listing.files = list_files(client, repository, listing.commit, address.path, address.text());
    if (listing.files.empty()) fail(ExitCode::input_missing, address.text(), ": holds no files");
    return listing;
  } catch (const Error& error) {
    if (error.code() != ExitCode::unavailable || !in_cache) throw;
    client.tell(concat(error.what(), "; using what the cache has"));
    return std::nullopt;
  }
}

// Brings the files of a listing into the cache, a few at a time because each begins with a wait for the hub's answer.
class FilesDownload {
 public:
  FilesDownload(HubClient& client, HubCache& cache, const HubRepository& repository, const FolderListing& listing,
                const ByteProgress& progress)
      : client_(client), cache_(cache), repository_(repository), listing_(listing), progress_(progress) {
    for (const ListedFile& file : listing.files) total_ += file.size;
  }

  void run() {
    constexpr size_t kTransfers = 4;
    cache_.prepare(repository_);  // once, before several threads would
    std::vector<std::thread> threads;
    for (size_t i = 0; i < std::min(kTransfers, listing_.files.size()); ++i) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
    if (problem_) std::rethrow_exception(problem_);
  }

 private:
  void work() {
    try {
      HubClient client(client_.settings(), [this](const std::string& line) {
        const std::lock_guard lock(mutex_);
        client_.tell(line);
      });
      for (size_t i; !failed_ && (i = next_++) < listing_.files.size();) fetch(client, listing_.files[i]);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!problem_) problem_ = std::current_exception();
      failed_ = true;
    }
  }

  void fetch(HubClient& client, const ListedFile& file) {
    int64_t counted = 0;  // bytes of this file that are in `done_`
    const auto count = [&](int64_t have) {
      const std::lock_guard lock(mutex_);
      done_ += have - std::exchange(counted, have);
      if (progress_) progress_(done_, total_);
    };
    // A content that is there, perhaps from another commit, needs no request.
    if (cache_.has_sound_blob(repository_, file.etag))
      cache_.link(repository_, listing_.commit, file.path, file.etag);
    else
      download_file(client, cache_, repository_, listing_.commit, file.path, [&](int64_t have, int64_t) { count(have); });
    count(file.size);
  }

  HubClient& client_;
  HubCache& cache_;
  const HubRepository& repository_;
  const FolderListing& listing_;
  const ByteProgress& progress_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;  // guards what follows, progress_ and the notices
  std::exception_ptr problem_;
  int64_t done_ = 0, total_ = 0;  // bytes
};

Downloaded download_files(HubClient& client, HubCache& cache, const HubAddress& address, const FolderListing& listing,
                          const ByteProgress& progress) {
  FilesDownload(client, cache, address.repository, listing, progress).run();
  cache.write_ref(address.repository, address.revision, listing.commit);
  Downloaded result{folder_of(cache, address, listing.commit), listing.commit, {}};
  for (const ListedFile& file : listing.files)
    result.files.push_back(fs::path(file.path).lexically_relative(address.path.empty() ? "." : address.path).string());
  return result;
}

Downloaded download_folder(HubClient& client, HubCache& cache, const HubAddress& address, const ByteProgress& progress) {
  const bool offline = client.settings().offline;
  const auto listing = offline ? std::nullopt : list_folder(client, address, kMostAttempts, false);
  if (listing) return download_files(client, cache, address, *listing, progress);
  auto found = folder_in_cache(cache, address);
  if (!found) fail_offline(cache, address.text());
  client.tell(address.text() + ": offline; taking the files that the cache has");
  return *std::move(found);
}

// Keeps the files of a model folder that programs read. Repositories often have the weights in several formats.
void keep_model_files(std::vector<ListedFile>& files, const std::string& folder) {
  const auto name_of = [&](const ListedFile& file) { return file.path.substr(folder.empty() ? 0 : folder.size() + 1); };
  const auto is_safetensors = [&](const ListedFile& file) {
    return name_of(file).starts_with("model") && name_of(file).ends_with(".safetensors");
  };
  const bool has_safetensors = std::any_of(files.begin(), files.end(), is_safetensors);
  std::erase_if(files, [&](const ListedFile& file) {
    const std::string name = name_of(file);
    const bool is_weight = has_safetensors ? is_safetensors(file) : name.starts_with("pytorch_model") && name.ends_with(".bin");
    return name.find('/') != name.npos || !(is_weight || name == "tokenizer.model" || name.ends_with(".json"));
  });
}

// Makes a copy under a temporary name, and renames it when it is on the disk.
void copy_content(const fs::path& from, const fs::path& to) {
  std::error_code problem;
  fs::create_directories(fs::absolute(to).parent_path(), problem);
  if (problem) fail(ExitCode::io, to.string(), ": its folder cannot be created: ", problem.message());
  const fs::path temporary = to.string() + ".echoatt.incomplete";
  try {
    const MappedFile source(from);
    FileWriter writer(temporary);
    writer.write(source.bytes().data(), source.bytes().size());
    writer.finish();
    if (::rename(temporary.c_str(), to.c_str()) != 0)
      fail(ExitCode::io, to.string(), ": cannot be written: ", std::strerror(errno));
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace

Downloaded download(HubClient& client, HubCache& cache, const HubAddress& address, const ByteProgress& progress) {
  if (address.is_folder) return download_folder(client, cache, address, progress);
  std::optional<Error> no_file;
  try {
    const CachedFile file = download_file(client, cache, address.repository, address.revision, address.path, progress);
    return {file.path, file.commit, {}};
  } catch (const Error& error) {
    if (error.code() != ExitCode::input_missing) throw;
    no_file = error;
  }
  try {  // perhaps a folder
    return download_folder(client, cache, address, progress);
  } catch (const Error& error) {
    if (error.code() == ExitCode::input_missing) throw *no_file;
    throw;
  }
}

fs::path download_model(HubClient& client, HubCache& cache, const HubAddress& address, const ByteProgress& progress) {
  constexpr int kAttempts = 2;  // a model's name may be a misspelt folder, and then nobody wants to wait for a network
  const auto commit = cache.commit_of(address.repository, address.revision);
  std::error_code ignored;
  const bool in_cache = commit && fs::exists(folder_of(cache, address, *commit) / "config.json", ignored);
  std::optional<FolderListing> listing;
  try {
    if (!client.settings().offline) listing = list_folder(client, address, kAttempts, in_cache);
  } catch (const Error& error) {
    if (error.code() != ExitCode::unavailable) throw;
    fail(ExitCode::input_missing, error.what(), "; and the cache ", cache.folder().string(), " does not have it");
  }
  if (listing) {
    keep_model_files(listing->files, address.path);
    int64_t missing = 0;
    for (const ListedFile& file : listing->files)
      if (!cache.has_sound_blob(address.repository, file.etag)) missing += file.size;
    if (missing > 0)
      client.tell(
          fmt::format("{}: fetching {:.1f} MB into {}", address.text(), double(missing) * 1e-6, cache.folder().string()));
    return download_files(client, cache, address, *listing, progress).path;
  }
  if (!in_cache) fail_offline(cache, address.text());
  return folder_in_cache(cache, address)->path;
}

fs::path copy_to(const Downloaded& downloaded, const fs::path& output) {
  std::error_code ignored;
  const bool is_folder = fs::is_directory(output, ignored);
  if (downloaded.files.empty()) {
    const fs::path to = is_folder ? output / downloaded.path.filename() : output;
    copy_content(downloaded.path, to);
    return to;
  }
  if (!is_folder && fs::exists(output, ignored))
    fail(ExitCode::io, output.string(), ": is a file; a folder was downloaded, so --output must name a folder");
  for (const std::string& file : downloaded.files) copy_content(downloaded.path / file, output / file);
  return output;
}

}  // namespace echo
