#include "hub/content_hash.h"

#include <openssl/evp.h>

#include "base/error.h"
#include "base/file.h"

namespace echo {

struct ContentHash::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

ContentHash::ContentHash(const std::string& etag, int64_t size) : state_(std::make_unique<State>()) {
  const bool is_git = etag.size() == 40;
  ECHO_CHECK(state_->context != nullptr && EVP_DigestInit_ex(state_->context, is_git ? EVP_sha1() : EVP_sha256(), nullptr) == 1,
             "libcrypto does not provide ", hash_name(etag));
  if (is_git) {
    const std::string prefix = concat("blob ", size);
    add({prefix.c_str(), prefix.size() + 1});  // with the zero at its end
  }
}

ContentHash::~ContentHash() = default;
ContentHash::ContentHash(ContentHash&&) noexcept = default;

void ContentHash::add(std::string_view bytes) {
  ECHO_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1, "libcrypto: hashing failed");
}

std::string ContentHash::digits() {
  constexpr char kDigits[] = "0123456789abcdef";
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned count = 0;
  ECHO_CHECK(EVP_DigestFinal_ex(state_->context, bytes, &count) == 1, "libcrypto: hashing failed");
  std::string text;
  for (unsigned i = 0; i < count; ++i) text.append({kDigits[bytes[i] >> 4], kDigits[bytes[i] & 15]});
  return text;
}

bool is_content_name(const std::string& etag) {
  return (etag.size() == 40 || etag.size() == 64) && etag.find_first_not_of("0123456789abcdef") == etag.npos;
}

std::string hash_name(const std::string& etag) { return etag.size() == 40 ? "git sha1" : "sha256"; }

std::string hash_file(const fs::path& path, const std::string& etag) {
  const MappedFile file(path);
  constexpr size_t kPiece = size_t{1} << 24;
  ContentHash hash(etag, int64_t(file.bytes().size()));
  for (size_t at = 0; at < file.bytes().size(); at += kPiece) {
    const auto piece = file.bytes().subspan(at, std::min(kPiece, file.bytes().size() - at));
    hash.add({reinterpret_cast<const char*>(piece.data()), piece.size()});
    file.release(at, piece.size());
  }
  return hash.digits();
}

}  // namespace echo
