#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hub/settings.h"

namespace echo {

// The status and headers of an answer.
struct HttpHead {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  std::optional<std::string> header(std::string_view name) const;  // `name` in lower case
  std::optional<int64_t> number(std::string_view name) const;      // nothing when it is absent or no number
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;   // "Name: value"
  std::chrono::milliseconds timeout;  // until the head is there; then the time in which 1 KiB per second must arrive
  bool compressed = false;            // the body may travel compressed, and arrives decompressed
};

// What becomes of an answer. Both functions may throw; that ends the transfer.
struct HttpReceiver {
  std::function<bool(const HttpHead&)> head;   // before the first byte of the body. False: the body is not wanted
  std::function<bool(std::string_view)> body;  // False: that was enough
};

// One connection to each server, kept open between requests. For one thread.
class HttpClient {
 public:
  explicit HttpClient(const HubSettings& settings);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // One GET. Follows no redirect, because the caller decides where a token may go. Throws TemporaryFailure when the network
  // fails or the server stalls, Error (unavailable) when another attempt is useless (an unknown certificate).
  HttpHead get(const HttpRequest& request, const HttpReceiver& receiver);

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

}  // namespace echo
