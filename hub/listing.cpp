#include "hub/listing.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "hub/content_hash.h"
#include "hub/url.h"

namespace echo {
namespace {

using nlohmann::json;

std::string text_of(const json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

// One row of a page. Throws Error (unavailable) when it is no file that we can fetch.
ListedFile listed_file(const json& row, const std::string& what) {
  const auto large = row.find("lfs");  // of a large file `oid` is the hash of a pointer, and lfs.oid that of the content
  const bool is_large = large != row.end() && large->is_object();
  const json& described = is_large ? *large : row;
  const auto size = described.find("size");
  ListedFile file{text_of(row, "path"), size != described.end() && size->is_number_integer() ? size->get<int64_t>() : -1,
                  text_of(described, "oid")};
  if (!is_safe_path(file.path) || file.size < 0 || !is_content_name(file.etag))
    fail(ExitCode::unavailable, what, ": the hub's listing has an unusable row: ", row.dump().substr(0, 200));
  return file;
}

FolderContent read_listing(HubClient& client, const HubRepository& repository, const std::string& commit,
                           const std::string& folder, bool recursive, const std::string& what) {
  std::string url =
      client.api_url(repository, concat("/tree/", commit, folder.empty() ? "" : "/" + percent_encoded(folder, false),
                                        "?recursive=", recursive ? "true" : "false", "&expand=false&limit=1000"));
  FolderContent content;
  std::vector<ListedFile>& files = content.files;
  std::set<std::string> pages;
  while (!url.empty()) {
    if (!pages.insert(url).second) fail(ExitCode::unavailable, what, ": the hub's listing repeats a page");
    std::string link;
    const json page = client.get_json(url, what, &link);
    if (!page.is_array()) fail(ExitCode::unavailable, what, ": the hub's listing is no list");
    for (const json& row : page) {
      const std::string type = row.is_object() ? text_of(row, "type") : "";
      if (type == "file") files.push_back(listed_file(row, what));
      if (type == "directory" && is_safe_path(text_of(row, "path"))) content.folders.push_back(text_of(row, "path"));
    }
    url = next_page(link, client.settings().endpoint);
  }
  const auto by_path = [](const ListedFile& a, const ListedFile& b) { return a.path < b.path; };
  std::sort(files.begin(), files.end(), by_path);
  std::sort(content.folders.begin(), content.folders.end());
  for (size_t i = 1; i < files.size(); ++i)
    if (files[i].path == files[i - 1].path)
      fail(ExitCode::unavailable, what, ": the hub's listing names ", files[i].path, " twice");
  return content;
}

}  // namespace

std::string fetch_commit(HubClient& client, const HubRepository& repository, const std::string& revision, int attempts) {
  const std::string what = HubAddress{repository, revision, "", true}.text();
  const json info =
      client.get_json(client.api_url(repository, "/revision/" + percent_encoded(revision, false)), what, nullptr, attempts);
  const std::string commit = info.is_object() ? text_of(info, "sha") : "";
  if (!is_commit(commit)) fail(ExitCode::unavailable, what, ": the hub names no commit for this revision");
  return commit;
}

std::string next_page(const std::string& link, const std::string& endpoint) {
  const size_t mark = link.find("rel=\"next\"");
  if (mark == link.npos) return "";
  const size_t begin = link.rfind('<', mark), end = link.find('>', begin == link.npos ? 0 : begin);
  if (begin == link.npos || end == link.npos || end > mark) fail(ExitCode::unavailable, "a listing with a damaged Link header");
  const std::string next = absolute_url(endpoint, link.substr(begin + 1, end - begin - 1));
  if (origin_of(next) == origin_of(endpoint)) return next;
  if (origin_of(next) != "https://huggingface.co:443")
    fail(ExitCode::unavailable, endpoint, ": the listing goes on at another server: ", shown_url(next));
  return endpoint + next.substr(next.find('/', next.find("//") + 2));
}

FolderContent list_folder(HubClient& client, const HubRepository& repository, const std::string& commit,
                          const std::string& folder, const std::string& what) {
  return read_listing(client, repository, commit, folder, /*recursive=*/false, what);
}

std::vector<ListedFile> list_files(HubClient& client, const HubRepository& repository, const std::string& commit,
                                   const std::string& folder, const std::string& what) {
  return read_listing(client, repository, commit, folder, /*recursive=*/true, what).files;
}

}  // namespace echo
