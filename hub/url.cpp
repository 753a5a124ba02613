#include "hub/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "base/error.h"

namespace echo {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using ParsedUrl = std::unique_ptr<CURLU, FreeUrl>;

// Only http and https: a server must not send us to a file or another service.
bool set_url(const ParsedUrl& url, const std::string& text) {
  return curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
}

std::string part_of(const ParsedUrl& url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return "";
  const std::string result = text;
  curl_free(text);
  return result;
}

ParsedUrl parsed(const std::string& text) {
  ParsedUrl url(curl_url());
  if (!url || !set_url(url, text)) url.reset();
  return url;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return text;
}

int hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string percent_encoded(std::string_view text, bool keep_slashes) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                       c == '.' || c == '~' || (c == '/' && keep_slashes);
    if (plain)
      result += c;
    else
      (result += '%').append({kDigits[uint8_t(c) >> 4], kDigits[uint8_t(c) & 15]});
  }
  return result;
}

std::string percent_decoded(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool coded = text[i] == '%' && i + 2 < text.size() && hexadecimal(text[i + 1]) >= 0 && hexadecimal(text[i + 2]) >= 0;
    result += coded ? char(hexadecimal(text[i + 1]) * 16 + hexadecimal(text[i + 2])) : text[i];
    if (coded) i += 2;
  }
  return result;
}

std::string absolute_url(const std::string& base, const std::string& location) {
  const ParsedUrl url = parsed(base);
  if (url && set_url(url, location))
    if (const std::string scheme = part_of(url, CURLUPART_SCHEME); scheme == "http" || scheme == "https")
      return part_of(url, CURLUPART_URL);
  fail(ExitCode::unavailable, shown_url(base), " redirects to something that is no web address");
}

std::string origin_of(const std::string& text) {
  const ParsedUrl url = parsed(text);
  if (!url) fail(ExitCode::unavailable, "not a web address: ", text.substr(0, text.find('?')));
  return concat(part_of(url, CURLUPART_SCHEME), "://", lower(part_of(url, CURLUPART_HOST)), ":",
                part_of(url, CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

std::string shown_url(const std::string& text) {
  const ParsedUrl url = parsed(text);
  if (!url) return text.substr(0, text.find('?'));
  const std::string port = part_of(url, CURLUPART_PORT);
  const std::string path = part_of(url, CURLUPART_PATH);
  return concat(part_of(url, CURLUPART_SCHEME), "://", part_of(url, CURLUPART_HOST), port.empty() ? "" : ":" + port,
                path == "/" ? "" : path);
}

}  // namespace echo
