#include "hub/file_download.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "hub/content_hash.h"
#include "hub/partial_file.h"
#include "hub/resolve.h"
#include "hub/url.h"

namespace echo {
namespace {

constexpr int64_t kProgressBytes = 4096;  // fewer new bytes from a hopeless server are no progress
constexpr int kMostWrongHashes = 3;
constexpr std::string_view kUrls = "urls/";          // begins the name of a repository that is none: files outside the hub
constexpr int64_t kMostPlainBytes = 50'000'000'000;  // beyond, the hub may not serve a file over plain HTTP

std::string version_of(const HttpHead& head) { return head.header("etag").value_or(head.header("last-modified").value_or("")); }

// One file on its way into the cache: what is remembered from one attempt to the next.
class FileDownload {
 public:
  FileDownload(HubClient& client, HubCache& cache, const HubRepository& repository, std::string revision,
               const std::string& path, const ByteProgress& progress)
      : client_(client),
        cache_(cache),
        repository_(repository),
        asked_revision_(revision),
        revision_(std::move(revision)),
        path_(path),
        progress_(progress),
        what_(repository.name.starts_with(kUrls) ? shown_url(path)
                                                 : HubAddress{repository, asked_revision_, path, false}.text()) {}

  CachedFile run();
  fs::path run_url(const UrlFile& file);

 private:
  CachedFile attempt(Patience& patience);
  void fetch(const ResolvedFile& file, Patience& patience);
  void fetch_rest(const ResolvedFile& file, PartialFile& partial, Patience& patience);
  int64_t judge_content(const HttpHead& head, const ResolvedFile& file, PartialFile& partial);
  void check_hash(const ResolvedFile& file, PartialFile& partial);
  void check_space(const ResolvedFile& file, int64_t have) const;

  HubClient& client_;
  HubCache& cache_;
  const HubRepository& repository_;
  const std::string asked_revision_;
  std::string revision_;  // a commit after the first answer, so that all parts belong together
  const std::string& path_;
  const ByteProgress& progress_;
  const std::string what_;        // the address, for messages
  const UrlFile* url_ = nullptr;  // of a file outside the hub
  std::string storage_etag_;      // of the storage's last answer, to notice that its content has changed
  int64_t furthest_ = 0;          // bytes that were there at best
  int wrong_hashes_ = 0;
};

CachedFile FileDownload::run() {
  const auto commit = cache_.commit_of(repository_, revision_);
  const auto cached = commit ? cache_.find(repository_, *commit, path_) : std::nullopt;
  if (cached && (is_commit(revision_) || client_.settings().offline)) return {*cached, *commit};
  if (client_.settings().offline) fail_offline(cache_, what_);
  Patience patience(what_, client_.notice(), kMostAttempts, client_.settings().stop);
  while (true) {
    try {
      return attempt(patience);
    } catch (const TemporaryFailure& failure) {
      if (cached && !is_commit(revision_) && !failure.rate_limited()) {
        client_.tell(concat(what_, ": the hub cannot be reached (", failure.what(), "); using the copy in the cache"));
        return {*cached, *commit};
      }
      patience.failed(failure);
    }
  }
}

fs::path FileDownload::run_url(const UrlFile& file) {
  url_ = &file;
  const ResolvedFile resolved{"", file.etag(), file.size, file.url, {}};
  const fs::path blob = cache_.blob(repository_, resolved.etag);
  const auto is_there = [&] {
    std::error_code ignored;
    return fs::is_regular_file(blob, ignored) && int64_t(fs::file_size(blob, ignored)) == file.size;
  };
  if (is_there()) return blob;
  if (client_.settings().offline) fail_offline(cache_, what_);
  cache_.prepare(repository_);
  Patience patience(what_, client_.notice(), kMostAttempts, client_.settings().stop);
  const CacheLock lock(cache_.lock_path(repository_, resolved.etag), client_.notice());
  while (!is_there()) {
    try {
      fetch(resolved, patience);
    } catch (const TemporaryFailure& failure) {
      patience.failed(failure);
    }
  }
  return blob;
}

CachedFile FileDownload::attempt(Patience& patience) {
  const auto is_known = [&](const std::string& etag) { return cache_.has_sound_blob(repository_, etag); };
  const ResolvedFile file = resolve_file(client_, repository_, revision_, path_, what_, is_known);
  revision_ = file.commit;
  if (!is_known(file.etag)) {
    cache_.prepare(repository_);
    const CacheLock lock(cache_.lock_path(repository_, file.etag), client_.notice());
    if (!is_known(file.etag)) fetch(file, patience);  // another process may have brought it
  }
  const fs::path place = cache_.link(repository_, file.commit, path_, file.etag);
  cache_.write_ref(repository_, asked_revision_, file.commit);
  return {place, file.commit};
}

void FileDownload::check_space(const ResolvedFile& file, int64_t have) const {
  std::error_code problem;
  const auto space = fs::space(cache_.folder(), problem);
  const int64_t needed = file.size.value_or(0) - have;
  if (!problem && needed > 0 && space.available < uintmax_t(needed))
    fail(ExitCode::io, what_, ": needs ", needed, " bytes, and ", cache_.folder().string(), " has ", space.available,
         " free; free some space, or choose another disk with HF_HUB_CACHE");
}

void FileDownload::fetch(const ResolvedFile& file, Patience& patience) {
  const fs::path blob = cache_.blob(repository_, file.etag);
  PartialFile partial(blob.string() + ".echoatt.incomplete", file.etag, file.size);
  furthest_ = std::max(furthest_, partial.have());
  check_space(file, partial.have());
  if (file.content) {
    partial.restart();
    partial.append(*file.content);
  } else if (!file.size || partial.have() < *file.size) {
    fetch_rest(file, partial, patience);
  }
  if (url_ == nullptr) check_hash(file, partial);
  partial.keep_as(blob);
  cache_.trust_blob(repository_, file.etag);
}

void FileDownload::fetch_rest(const ResolvedFile& file, PartialFile& partial, Patience& patience) {
  HttpRequest request{file.url, {"Accept-Encoding: identity"}, client_.settings().storage_timeout, false};
  if (partial.have() > 0) {
    request.headers.push_back(concat("Range: bytes=", partial.have(), "-"));
    if (!storage_etag_.empty()) request.headers.push_back("If-Range: " + storage_etag_);
  }
  int64_t to_skip = 0;
  const auto take_head = [&](const HttpHead& head) {
    to_skip = judge_content(head, file, partial);
    return true;
  };
  const auto take_body = [&](std::string_view bytes) {
    const size_t skipped = size_t(std::min<int64_t>(to_skip, int64_t(bytes.size())));
    to_skip -= int64_t(skipped);
    bytes.remove_prefix(skipped);
    const bool excess = file.size && int64_t(bytes.size()) > *file.size - partial.have();
    if (excess) bytes = bytes.substr(0, size_t(*file.size - partial.have()));
    partial.append(bytes);
    if (partial.have() >= furthest_ + kProgressBytes) {
      furthest_ = partial.have();
      patience.progressed();
    }
    if (progress_) progress_(partial.have(), file.size.value_or(0));
    return !excess;
  };
  client_.get(request, {take_head, take_body});
  if (file.size && partial.have() < *file.size)
    throw TemporaryFailure(concat(origin_of(file.url), ": ended at byte ", partial.have(), " of ", *file.size));
}

// Judges the storage's answer before a byte is written. Returns how many bytes of the body are there already.
int64_t FileDownload::judge_content(const HttpHead& head, const ResolvedFile& file, PartialFile& partial) {
  const std::string host = origin_of(file.url);
  if (url_ != nullptr && head.status >= 400 && head.status != 416) client_.judge_refusal(head, what_);
  if (url_ != nullptr && head.status < 400 && version_of(head) != url_->version)
    fail(ExitCode::bad_data, what_, ": has changed since the run began (version ", version_of(head), ", was ", url_->version,
         ")");
  if (head.status == 416) partial.restart();
  if (head.status == 400 && file.size.value_or(0) > kMostPlainBytes)
    fail(ExitCode::unavailable, what_, ": ", host, " does not serve a file of ", *file.size, " bytes over plain HTTP");
  if (head.status != 200 && head.status != 206)
    throw TemporaryFailure(concat(host, " answers ", head.status), requested_wait(head), head.status == 429);
  if (head.header("content-encoding").value_or("identity") != "identity")
    throw TemporaryFailure(host + " sends a compressed file, which was not asked for");
  long long begin = 0, end = -1;
  const int64_t have = head.status == 206 ? partial.have() : 0;
  if (head.status == 206) {
    const std::string range = head.header("content-range").value_or("none");
    char total[24] = "";
    const bool parsed = std::sscanf(range.c_str(), "bytes %lld-%lld/%23[0-9*]", &begin, &end, total) == 3;
    const bool right_size = std::string(total) == "*" || !file.size || total == std::to_string(*file.size);
    if (!parsed || begin < 0 || begin > have || end < begin || !right_size) {
      partial.restart();
      throw TemporaryFailure(concat(host, " answers with Content-Range ", range.substr(0, 80), ", expected bytes ", have,
                                    "- of ", file.size.value_or(-1)));
    }
  }
  const auto length = head.number("content-length");
  const auto expected = head.status == 206 ? std::optional<int64_t>(end - begin + 1) : file.size;
  if (length && expected && *length != *expected)
    throw TemporaryFailure(concat(host, " offers ", *length, " bytes, expected ", *expected));
  if (head.status == 200) partial.restart();
  const std::string etag = head.header("etag").value_or("");
  storage_etag_ = etag.starts_with('"') ? etag : "";  // a weak one cannot be a condition for a range
  return have - begin;
}

void FileDownload::check_hash(const ResolvedFile& file, PartialFile& partial) {
  const std::string digits = partial.digits();
  if (digits == file.etag) return;
  partial.restart();
  furthest_ = 0;
  storage_etag_.clear();
  if (++wrong_hashes_ >= kMostWrongHashes)
    fail(ExitCode::bad_data, what_, ": the content that arrives is damaged: its ", hash_name(file.etag), " is ", digits,
         ", the hub says ", file.etag, " (", wrong_hashes_, " attempts); try again later, or over another network");
  throw TemporaryFailure(concat("the ", hash_name(file.etag), " of the content is wrong"));
}

}  // namespace

void fail_offline(const HubCache& cache, const std::string& what) {
  fail(ExitCode::input_missing, what, ": not in the cache ", cache.folder().string(),
       ", and HF_HUB_OFFLINE is set; fetch it with `HF_HUB_OFFLINE=0 ./download ", what, "`");
}

HubRepository UrlFile::repository() const {
  std::string host = origin_of(url);
  host = host.substr(host.find("//") + 2);
  std::replace(host.begin(), host.end(), ':', '.');
  return {true, std::string(kUrls) + host};
}

std::string UrlFile::etag() const {
  ContentHash hash(std::string(64, '0'), 0);
  hash.add(concat(url, '\n', size, '\n', version));
  return hash.digits();
}

UrlFile describe_url(HubClient& client, const std::string& url) {
  const std::string what = shown_url(url);
  for (Patience patience(what, client.notice(), kMostAttempts, client.settings().stop);;) {
    try {
      UrlFile file{url, -1, ""};
      const auto take_head = [&](const HttpHead& head) {
        client.judge_refusal(head, what);
        if (head.status != 200) throw TemporaryFailure(concat(what, " answers ", head.status));
        file.size = head.number("content-length").value_or(-1);
        file.version = version_of(head);
        return false;
      };
      client.get({url, {"Accept-Encoding: identity"}, client.settings().storage_timeout, false},
                 {take_head, [](std::string_view) { return false; }});
      if (file.size < 0) fail(ExitCode::unavailable, what, ": the server does not tell the size of the file");
      return file;
    } catch (const TemporaryFailure& failure) {
      patience.failed(failure);
    }
  }
}

fs::path download_url(HubClient& client, HubCache& cache, const UrlFile& file, const ByteProgress& progress) {
  const HubRepository repository = file.repository();
  return FileDownload(client, cache, repository, "main", file.url, progress).run_url(file);
}

CachedFile download_file(HubClient& client, HubCache& cache, const HubRepository& repository, const std::string& revision,
                         const std::string& path, const ByteProgress& progress) {
  return FileDownload(client, cache, repository, revision, path, progress).run();
}

}  // namespace echo
