#include "hub/hub_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "base/error.h"
#include "hub/url.h"

namespace echo {
namespace {

constexpr int kMostRedirects = 10;
constexpr size_t kMostJsonBytes = size_t{64} << 20;
constexpr size_t kMostRedirectBytes = size_t{1} << 16;  // a body of a redirect that is read to keep the connection

bool is_redirect(const HttpHead& head) {
  return (head.status >= 301 && head.status <= 303) || head.status == 307 || head.status == 308;
}

// The numbers of `RateLimit: "resolvers";r=2999;t=172`: what is left of the quota, and the seconds until it is renewed.
struct RateLimit {
  long left = -1, seconds = 0;
};

RateLimit rate_limit_of(const HttpHead& head) {
  const std::string text = head.header("ratelimit").value_or("");
  RateLimit limit;
  const size_t at = text.find(";r=");
  if (at == text.npos || std::sscanf(text.c_str() + at, ";r=%ld;t=%ld", &limit.left, &limit.seconds) != 2) return {};
  return limit;
}

}  // namespace

double pause_for_quota(const HttpHead& head) {
  constexpr double kLongest = 60;  // seconds
  const RateLimit limit = rate_limit_of(head);
  const std::string policy = head.header("ratelimit-policy").value_or("");  // "fixed window";"api";q=500;w=300
  const size_t at = policy.find(";q=");
  const long quota = at == policy.npos ? 0 : std::atol(policy.c_str() + at + 3);
  if (limit.left < 0 || limit.left * 10 >= quota) return 0;
  return std::clamp(double(limit.seconds) / double(limit.left + 1), 0.0, kLongest);
}

std::optional<double> requested_wait(const HttpHead& head) {
  std::optional<double> wait;
  if (const auto after = head.header("retry-after")) {
    if (const auto seconds = head.number("retry-after"))
      wait = double(*seconds);
    else if (const time_t date = curl_getdate(after->c_str(), nullptr); date > 0)
      wait = std::max(0.0, double(date) - double(std::time(nullptr)));
  }
  const RateLimit limit = rate_limit_of(head);
  if (head.status == 429 && limit.left == 0) wait = std::max(wait.value_or(0), double(std::max(0L, limit.seconds)));
  return wait;
}

std::string HubClient::file_url(const HubRepository& repository, const std::string& revision, const std::string& path) const {
  return concat(settings_.endpoint, repository.is_dataset ? "/datasets/" : "/", repository.name, "/resolve/",
                percent_encoded(revision, false), "/", percent_encoded(path, true));
}

std::string HubClient::api_url(const HubRepository& repository, const std::string& rest) const {
  return concat(settings_.endpoint, repository.is_dataset ? "/api/datasets/" : "/api/models/", repository.name, rest);
}

std::string HubClient::get(HttpRequest request, const HttpReceiver& receiver, const OnRedirect& on_redirect) {
  const std::vector<std::string> headers = request.headers;
  const std::string hub = origin_of(settings_.endpoint);
  for (int hop = 0; hop <= kMostRedirects; ++hop) {
    if (hub.starts_with("https:") && !request.url.starts_with("https:"))
      fail(ExitCode::unavailable, settings_.endpoint, " redirects to ", shown_url(request.url),
           ", which is not encrypted; this may be an attack, or a network that needs a sign-in");
    request.headers = headers;
    const bool to_hub = origin_of(request.url) == hub;
    if (to_hub && !settings_.token.empty()) request.headers.push_back("Authorization: Bearer " + settings_.token);
    if (to_hub) wait_for_paused_requests(settings_.stop);
    std::string target;
    bool last = false;
    size_t discarded = 0;
    const HttpReceiver watching = {[&](const HttpHead& head) {
                                     if (to_hub) pause_requests(pause_for_quota(head));
                                     if (!is_redirect(head) || !head.header("location")) return receiver.head(head);
                                     target = absolute_url(request.url, *head.header("location"));
                                     last = on_redirect && on_redirect(head, target);
                                     return true;
                                   },
                                   [&](std::string_view bytes) {
                                     if (target.empty()) return receiver.body(bytes);
                                     discarded += bytes.size();
                                     return discarded <= kMostRedirectBytes;
                                   }};
    http_.get(request, watching);
    if (target.empty() || last) return request.url;
    request.url = target;
  }
  fail(ExitCode::unavailable, shown_url(request.url), ": more than ", kMostRedirects, " redirects");
}

void HubClient::judge_refusal(const HttpHead& head, const std::string& what) const {
  if (head.status < 400) return;
  const std::string code = head.header("x-error-code").value_or("");
  const std::string said = head.header("x-error-message").value_or("").substr(0, 300);
  const std::string host = shown_url(settings_.endpoint);
  const auto why = [&](const char* otherwise) { return said.empty() ? otherwise : said; };
  if (code == "GatedRepo")
    fail(ExitCode::no_permission, what, ": ", why("access is restricted"),
         " Accept the terms on the page of the repository at ", host,
         settings_.token.empty() ? ", then set HF_TOKEN to a token of that account" : " with the account of the token from ",
         settings_.token_source);
  if (code == "RepoNotFound" || code == "RevisionNotFound" || code == "EntryNotFound")
    fail(ExitCode::input_missing, what, ": ",
         code == "RepoNotFound"       ? "there is no such repository"
         : code == "RevisionNotFound" ? "there is no such revision"
                                      : "there is no such file or folder",
         " at ", host, " (", why(code.c_str()), "); check the spelling",
         code == "RepoNotFound" && settings_.token.empty() ? ", or set HF_TOKEN if it is private" : "");
  if (head.status == 401 && !settings_.token.empty())
    fail(ExitCode::no_permission, what, ": ", host, " does not accept the token from ", settings_.token_source, " (",
         why("401"), "); renew it, or remove it for public files");
  if (head.status == 401)
    fail(ExitCode::input_missing, what, ": there is no such repository at ", host,
         ", or it is private; check the spelling, or set HF_TOKEN to a token that may read it");
  if (head.status == 403) fail(ExitCode::no_permission, what, ": ", host, " refuses it: ", why("403"));
  if (head.status == 404)
    fail(ExitCode::input_missing, what, ": not found at ", host, " (404); check the spelling, and HF_ENDPOINT if it is set");
  const std::string message = concat(host, " answers ", head.status, said.empty() ? "" : " (" + said + ")");
  if (head.status == 408 || head.status == 425 || head.status == 429 || head.status >= 500)
    throw TemporaryFailure(message, requested_wait(head), head.status == 429);
  fail(ExitCode::unavailable, what, ": ", message);
}

nlohmann::json HubClient::get_json_once(const std::string& url, const std::string& what, std::string* link) {
  std::string text;
  if (link != nullptr) link->clear();
  const HttpRequest request{url, {}, settings_.hub_timeout, true};
  const auto take_head = [&](const HttpHead& head) {
    judge_refusal(head, what);
    if (head.status != 200) throw TemporaryFailure(concat(shown_url(url), " answers ", head.status));
    if (link != nullptr)
      for (const auto& [name, value] : head.headers)
        if (name == "link") *link += (link->empty() ? "" : ", ") + value;
    return true;
  };
  get(request, {take_head, [&](std::string_view bytes) {
                  if (text.size() + bytes.size() > kMostJsonBytes)
                    fail(ExitCode::unavailable, shown_url(url), ": an answer of more than 64 MiB");
                  text += bytes;
                  return true;
                }});
  auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded())
    throw TemporaryFailure(shown_url(url) +
                           " does not answer as the hub does (a network that needs a sign-in, or a wrong HF_ENDPOINT?)");
  return json;
}

nlohmann::json HubClient::get_json(const std::string& url, const std::string& what, std::string* link, int attempts) {
  for (Patience patience(what, notice_, attempts, settings_.stop);;) {
    try {
      return get_json_once(url, what, link);
    } catch (const TemporaryFailure& failure) {
      patience.failed(failure);
    }
  }
}

}  // namespace echo
