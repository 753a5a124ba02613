#include "hub/settings.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <initializer_list>

#include "base/error.h"
#include "base/file.h"

namespace echo {
namespace {

// The value of the first of these variables that is set and not empty.
std::string variable(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  return "";
}

bool is_yes(std::string value) {
  for (char& c : value) c = char(std::toupper(static_cast<unsigned char>(c)));
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

// Replaces ~ at the start, $NAME and ${NAME}, as a shell would. An unknown $NAME stays.
fs::path expanded(const std::string& text) {
  std::string result;
  size_t i = 0;
  if (text == "~" || text.starts_with("~/")) {
    result = variable({"HOME"});
    i = 1;
  }
  while (i < text.size()) {
    const bool braces = text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{';
    const size_t begin = i + (braces ? 2 : 1);
    size_t end = begin;
    while (text[i] == '$' && end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_'))
      ++end;
    const bool closed = !braces || (end < text.size() && text[end] == '}');
    const char* value = end > begin && closed ? std::getenv(text.substr(begin, end - begin).c_str()) : nullptr;
    if (value != nullptr) {
      result += value;
      i = end + (braces ? 1 : 0);
    } else {
      result += text[i++];
    }
  }
  return result;
}

fs::path home_folder() {
  if (const std::string named = variable({"HF_HOME"}); !named.empty()) return expanded(named);
  if (const std::string named = variable({"XDG_CACHE_HOME"}); !named.empty()) return expanded(named) / "huggingface";
  return expanded("~/.cache/huggingface");
}

// A token with line breaks in it would add headers of its own.
std::string cleaned(const std::string& text) {
  std::string token;
  for (const char c : text)
    if (c != '\n' && c != '\r') token += c;
  const auto is_space = [](unsigned char c) { return std::isspace(c) != 0; };
  token.erase(token.begin(), std::find_if_not(token.begin(), token.end(), is_space));
  token.erase(std::find_if_not(token.rbegin(), token.rend(), is_space).base(), token.end());
  return token;
}

void read_token(HubSettings& settings, const fs::path& home) {
  if (is_yes(variable({"HF_HUB_DISABLE_IMPLICIT_TOKEN"}))) return;
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (settings.token = cleaned(variable({name})); !settings.token.empty()) {
      settings.token_source = name;
      return;
    }
  const std::string named = variable({"HF_TOKEN_PATH"});
  const fs::path file = named.empty() ? home / "token" : expanded(named);
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return;
  settings.token = cleaned(read_file(file));
  settings.token_source = file.string();
}

std::chrono::seconds seconds_of(const char* name) {
  const std::string text = variable({name});
  if (text.empty()) return std::chrono::seconds(10);
  int value = -1;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value < 0 || value > 86400)
    fail(ExitCode::config, name, "=", text, ": a whole number of seconds is expected, for example ", name, "=10");
  return std::chrono::seconds(value == 0 ? 10 : value);
}

std::string read_endpoint() {
  std::string endpoint = variable({"HF_ENDPOINT"});
  if (endpoint.empty()) endpoint = "https://huggingface.co";
  while (endpoint.ends_with('/')) endpoint.pop_back();
  const bool plain = endpoint.starts_with("http://"), encrypted = endpoint.starts_with("https://");
  if ((!plain && !encrypted) || endpoint.size() <= (plain ? 7u : 8u) || endpoint.find_first_of(" \t\r\n?#") != endpoint.npos)
    fail(ExitCode::config, "HF_ENDPOINT=", endpoint, ": an address like https://huggingface.co is expected");
  return endpoint;
}

}  // namespace

HubSettings read_hub_settings() {
  HubSettings settings;
  const fs::path home = home_folder();
  settings.endpoint = read_endpoint();
  read_token(settings, home);
  const std::string cache = variable({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  settings.cache = cache.empty() ? home / "hub" : expanded(cache);
  settings.shard_cache = home / "echoatt/shards";
  settings.offline = is_yes(variable({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  settings.hub_timeout = seconds_of("HF_HUB_ETAG_TIMEOUT");
  settings.storage_timeout = seconds_of("HF_HUB_DOWNLOAD_TIMEOUT");
  const std::string agent_origin = variable({"HF_HUB_USER_AGENT_ORIGIN"});
  settings.user_agent = cleaned(concat("echoatt/1.0", agent_origin.empty() ? "" : "; origin/" + agent_origin));
  settings.certificates_file = variable({"SSL_CERT_FILE", "CURL_CA_BUNDLE"});
  settings.certificates_folder = variable({"SSL_CERT_DIR"});
  settings.http_proxy = variable({"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"});
  settings.https_proxy = variable({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"});
  settings.no_proxy = variable({"no_proxy", "NO_PROXY"});
  settings.show_progress = !is_yes(variable({"HF_HUB_DISABLE_PROGRESS_BARS"}));
  return settings;
}

}  // namespace echo
