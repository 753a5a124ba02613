#include "hub/resolve.h"

#include <algorithm>

#include "hub/content_hash.h"
#include "hub/url.h"

namespace echo {
namespace {

// The hub keeps larger files in its storage, so a larger answer is fetched in parts like those.
constexpr size_t kMostDirectBytes = size_t{16} << 20;

std::string without_quotes(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

// Collects what the answers on the way to a file say about it. The storage's own answers say nothing, and its ETag is no hash
// of the content.
class Collector {
 public:
  Collector(const HubClient& client, const std::string& what) : client_(client), what_(what) {}

  void take(const HttpHead& head) {
    if (const auto commit = head.header("x-repo-commit"); commit && file.commit.empty()) file.commit = *commit;
    if (const auto etag = head.header("x-linked-etag")) file.etag = without_quotes(*etag);
    if (const auto size = head.number("x-linked-size")) file.size = size;
  }

  // The last answer: the content itself.
  void take_last(const HttpHead& head) {
    client_.judge_refusal(head, what_);
    take(head);
    if (file.commit.empty())
      throw TemporaryFailure(concat(shown_url(client_.settings().endpoint), " does not answer as the hub does (status ",
                                    head.status,
                                    " without X-Repo-Commit: a network that needs a sign-in, or a wrong HF_ENDPOINT?)"));
    if (head.status != 200) throw TemporaryFailure(concat(shown_url(client_.settings().endpoint), " answers ", head.status));
    if (head.header("content-encoding").value_or("identity") != "identity")
      throw TemporaryFailure(shown_url(client_.settings().endpoint) + " sends a compressed file, which was not asked for");
    if (file.etag.empty()) file.etag = without_quotes(head.header("etag").value_or(""));
    if (!file.size) file.size = head.number("content-length");
    check_names();
  }

  void check_names() const {
    if (!is_commit(file.commit) || !is_content_name(file.etag))
      throw TemporaryFailure(concat(shown_url(client_.settings().endpoint),
                                    " does not say which content the file has (X-Repo-Commit ", file.commit.substr(0, 64),
                                    ", ETag ", file.etag.substr(0, 80), ")"));
  }

  ResolvedFile file;

 private:
  const HubClient& client_;
  const std::string& what_;
};

}  // namespace

ResolvedFile resolve_file(HubClient& client, const HubRepository& repository, const std::string& revision,
                          const std::string& path, const std::string& what,
                          const std::function<bool(const std::string&)>& is_known) {
  Collector collector(client, what);
  ResolvedFile& file = collector.file;
  bool in_storage = false;
  std::string content;
  const auto on_redirect = [&](const HttpHead& head, const std::string& target) {
    collector.take(head);
    file.url = target;
    in_storage = head.header("x-linked-size").has_value() && !file.commit.empty();
    if (in_storage) collector.check_names();
    return in_storage || (is_commit(file.commit) && is_content_name(file.etag) && is_known(file.etag));
  };
  bool is_wanted = false, too_long = false;
  const auto take_head = [&](const HttpHead& head) {
    collector.take_last(head);
    is_wanted = !is_known(file.etag);
    return is_wanted;
  };
  const auto take_body = [&](std::string_view bytes) {
    content += bytes;
    too_long = content.size() > std::min(kMostDirectBytes, size_t(file.size.value_or(kMostDirectBytes)));
    return !too_long;
  };
  const std::string url = client.get(
      {client.file_url(repository, revision, path), {"Accept-Encoding: identity"}, client.settings().hub_timeout, false},
      {take_head, take_body}, on_redirect);
  if (in_storage || !is_wanted) return std::move(file);
  file.url = url;
  if (!too_long && file.size.value_or(int64_t(content.size())) == int64_t(content.size())) file.content = std::move(content);
  return std::move(file);
}

}  // namespace echo
