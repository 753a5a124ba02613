#pragma once

#include <functional>
#include <optional>
#include <string>

#include "hub/hub_client.h"

namespace echo {

// What the hub says about a file.
struct ResolvedFile {
  std::string commit;
  std::string etag;             // the hash of the content (ContentHash)
  std::optional<int64_t> size;  // bytes. Unknown where a proxy removes it
  std::string url;              // where the content is, for about an hour. It may hold a signature: never store or show it
  std::optional<std::string> content;  // a small file comes with the answer
};

// Asks the hub once. `is_known(etag)` true: the content is not needed, so it is not read. `what` is the file's address, for
// messages. Throws what HubClient::get and judge_refusal throw, and TemporaryFailure when something else than the hub answers.
ResolvedFile resolve_file(HubClient& client, const HubRepository& repository, const std::string& revision,
                          const std::string& path, const std::string& what,
                          const std::function<bool(const std::string&)>& is_known);

}  // namespace echo
