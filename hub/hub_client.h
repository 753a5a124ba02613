#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hub/address.h"
#include "hub/http.h"
#include "hub/retry.h"
#include "hub/settings.h"

namespace echo {

// Requests to the hub and its storage, with the rules that hold for all of them: the token goes to the hub alone, nothing that
// began encrypted goes on in plain text, and at most ten redirects are followed. For one thread.
class HubClient {
 public:
  HubClient(const HubSettings& settings, Notice notice) : settings_(settings), notice_(std::move(notice)), http_(settings) {}

  const HubSettings& settings() const { return settings_; }
  const Notice& notice() const { return notice_; }
  void tell(const std::string& line) const {
    if (notice_) notice_(line);
  }

  // One GET. `on_redirect` sees each answer that leads to another address, and ends the request there by returning true.
  // `receiver` sees the last answer. Returns the address of the last answer.
  // Throws TemporaryFailure, Error (unavailable), and what the receiver throws.
  using OnRedirect = std::function<bool(const HttpHead&, const std::string& target)>;
  std::string get(HttpRequest request, const HttpReceiver& receiver, const OnRedirect& on_redirect = {});

  // One JSON document, with retries. `what` begins every message. `link`, if given, receives the `Link` headers of the answer.
  nlohmann::json get_json(const std::string& url, const std::string& what, std::string* link = nullptr,
                          int attempts = kMostAttempts);

  // Throws what an answer of the hub with a status from 400 means: TemporaryFailure when another attempt may help, else Error
  // with the reason and the remedy: input_missing, no_permission or unavailable. `what` is the address that was asked for.
  void judge_refusal(const HttpHead& head, const std::string& what) const;

  // The addresses of the hub's protocol.
  std::string file_url(const HubRepository& repository, const std::string& revision, const std::string& path) const;
  std::string api_url(const HubRepository& repository, const std::string& rest) const;

 private:
  nlohmann::json get_json_once(const std::string& url, const std::string& what, std::string* link);

  const HubSettings settings_;
  const Notice notice_;
  HttpClient http_;
};

// How long to wait before the next request, so that the rest of the hub's quota lasts until it is renewed. Seconds; 0 while
// more than a tenth of it is left.
double pause_for_quota(const HttpHead& head);

// How long the server asks us to wait: the longer of its rate limit and Retry-After. Seconds.
std::optional<double> requested_wait(const HttpHead& head);

}  // namespace echo
