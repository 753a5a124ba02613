#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace echo {

// The hash by which the hub names the content of a file: sha256 (64 hexadecimal digits) of a large one, git's sha1 of a blob
// (40 digits) of a small one.
class ContentHash {
 public:
  // For content whose name is `etag` and that is `size` bytes long. Only git's hash depends on the size.
  ContentHash(const std::string& etag, int64_t size);
  ~ContentHash();
  ContentHash(ContentHash&&) noexcept;

  void add(std::string_view bytes);
  std::string digits();  // lower case. Ends the calculation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// True for 40 or 64 hexadecimal digits.
bool is_content_name(const std::string& etag);

// "sha256" or "git sha1".
std::string hash_name(const std::string& etag);

// The hash of a whole file, of the kind that `etag` is. Throws Error (input_missing, io).
std::string hash_file(const std::filesystem::path& path, const std::string& etag);

}  // namespace echo
