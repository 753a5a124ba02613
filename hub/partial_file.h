#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "hub/content_hash.h"

namespace echo {

// A file that arrives in pieces, perhaps over several runs of the program. What an earlier run left is kept, and its hash
// goes on from there. All functions throw Error (io).
class PartialFile {
 public:
  // Opens or creates `path`. `etag` names the content (ContentHash). `size` is that of the whole file, if it is known.
  PartialFile(const std::filesystem::path& path, std::string etag, std::optional<int64_t> size);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  int64_t have() const { return have_; }  // bytes
  void append(std::string_view bytes);
  void restart();        // throws away what is there
  std::string digits();  // the hash of what is there. Only restart() and keep_as() may follow

  // Makes it durable and gives it its final name.
  void keep_as(const std::filesystem::path& path);

 private:
  void hash_from_start();

  std::filesystem::path path_;
  std::string etag_;
  std::optional<int64_t> size_;
  int descriptor_ = -1;
  int64_t have_ = 0;
  std::optional<ContentHash> hash_;  // of the bytes so far; without a size git's hash is computed at the end
};

}  // namespace echo
