#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hub/hub_client.h"

namespace echo {

// A file of a repository, as the hub lists it.
struct ListedFile {
  std::string path;  // in the repository; safe (is_safe_path)
  int64_t size = 0;  // bytes
  std::string etag;  // the hash of the content (ContentHash)
};

// The commit that a revision has now: one request.
std::string fetch_commit(HubClient& client, const HubRepository& repository, const std::string& revision,
                         int attempts = kMostAttempts);

// All files below `folder` (empty: of the whole repository) at a commit, sorted by path. One request for 1000 of them. Throws
// Error: input_missing when there is no such folder, unavailable when the listing makes no sense. `what` begins its messages.
std::vector<ListedFile> list_files(HubClient& client, const HubRepository& repository, const std::string& commit,
                                   const std::string& folder, const std::string& what);

// What a folder holds itself, without the files of its own folders. Sorted by path.
struct FolderContent {
  std::vector<ListedFile> files;
  std::vector<std::string> folders;  // paths in the repository
};
FolderContent list_folder(HubClient& client, const HubRepository& repository, const std::string& commit,
                          const std::string& folder, const std::string& what);

// The next page of a listing, from the `Link` header of this one. Empty at the end. A mirror that does not change the
// addresses in its answers would send us to huggingface.co: the mirror's address is put in its place. Throws Error
// (unavailable) for any other address outside `endpoint`.
std::string next_page(const std::string& link, const std::string& endpoint);

}  // namespace echo
