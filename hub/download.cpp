#include "hub/download.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

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

Downloaded folder_in_cache(const HubClient& client, HubCache& cache, const HubAddress& address) {
  const std::string what = address.text();
  if (const auto commit = cache.commit_of(address.repository, address.revision)) {
    Downloaded found{folder_of(cache, address, *commit), *commit, {}};
    found.files = files_in_cache(found.path);
    for (const std::string& file : found.files)
      if (!cache.find(address.repository, *commit, (fs::path(address.path) / file).string()))
        fail(ExitCode::bad_data, (found.path / file).string(),
             ": its content is damaged; fetch it again without HF_HUB_OFFLINE");
    if (!found.files.empty()) {
      client.tell(what + ": offline; taking the files that the cache has");
      return found;
    }
  }
  fail(ExitCode::input_missing, what, ": not in the cache ", cache.folder().string(),
       ", and HF_HUB_OFFLINE is set; fetch it with `HF_HUB_OFFLINE=0 ./download ", what, "`");
}

Downloaded download_folder(HubClient& client, HubCache& cache, const HubAddress& address, const ByteProgress& progress) {
  if (client.settings().offline) return folder_in_cache(client, cache, address);
  const HubRepository& repository = address.repository;
  const std::string commit =
      is_commit(address.revision) ? address.revision : fetch_commit(client, repository, address.revision);
  const std::vector<ListedFile> files = list_files(client, repository, commit, address.path, address.text());
  if (files.empty()) fail(ExitCode::input_missing, address.text(), ": holds no files");
  int64_t total = 0, done = 0;
  for (const ListedFile& file : files) total += file.size;
  Downloaded result{folder_of(cache, address, commit), commit, {}};
  for (const ListedFile& file : files) {
    // A content that is there, perhaps from another commit, needs no request.
    if (cache.has_sound_blob(repository, file.etag))
      cache.link(repository, commit, file.path, file.etag);
    else
      download_file(client, cache, repository, commit, file.path, [&](int64_t have, int64_t) {
        if (progress) progress(done + have, total);
      });
    done += file.size;
    if (progress) progress(done, total);
    result.files.push_back(fs::path(file.path).lexically_relative(address.path.empty() ? "." : address.path).string());
  }
  cache.write_ref(repository, address.revision, commit);
  return result;
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
