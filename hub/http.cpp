#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <exception>
#include <mutex>

#include "base/error.h"
#include "hub/retry.h"
#include "hub/url.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSlowestBytesPerSecond = 1024;

// What a transfer has received so far.
struct Transfer {
  const HttpReceiver& receiver;
  HttpHead head;
  bool head_complete = false;
  bool stopped = false;  // the receiver did not want more
  int64_t body_bytes = 0;
  std::exception_ptr problem;  // thrown by the receiver. An exception must not pass through libcurl
};

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

void add_header(HttpHead& head, std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == line.npos || head.headers.size() > 1000) return;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  head.headers.emplace_back(std::move(name), trimmed(line.substr(colon + 1)));
}

int status_of(std::string_view line) {
  int status = 0;
  if (const size_t blank = line.find(' '); blank != line.npos)
    std::from_chars(line.data() + blank + 1, line.data() + line.size(), status);
  return status;
}

// Receives one line of the head. A value other than `count` makes libcurl end the transfer.
size_t on_header(char* text, size_t, size_t count, void* pointer) {
  Transfer& transfer = *static_cast<Transfer*>(pointer);
  const std::string_view line = trimmed({text, count});
  try {
    if (line.starts_with("HTTP/")) {
      transfer.head = HttpHead{status_of(line), {}};
    } else if (!line.empty()) {
      if (!transfer.head_complete) add_header(transfer.head, line);       // later ones are trailers
    } else if (transfer.head.status >= 200 && !transfer.head_complete) {  // 1xx: the real head follows
      transfer.head_complete = true;
      transfer.stopped = !transfer.receiver.head(transfer.head);
    }
  } catch (...) {
    transfer.problem = std::current_exception();
  }
  return transfer.problem || transfer.stopped ? count + 1 : count;
}

size_t on_body(char* bytes, size_t, size_t count, void* pointer) {
  Transfer& transfer = *static_cast<Transfer*>(pointer);
  transfer.body_bytes += int64_t(count);
  try {
    transfer.stopped = !transfer.receiver.body({bytes, count});
  } catch (...) {
    transfer.problem = std::current_exception();
  }
  return transfer.problem || transfer.stopped ? count + 1 : count;
}

// Finds out that a server is too slow. libcurl's own limit averages over seconds, and does not end a body of one byte per
// second.
class StallWatch {
 public:
  explicit StallWatch(std::chrono::milliseconds timeout)
      : timeout_(timeout), least_bytes_(std::max<int64_t>(1, kSlowestBytesPerSecond * timeout.count() / 1000)) {}

  bool stalled(const Transfer& transfer) {
    const auto now = Clock::now();
    if ((transfer.head_complete && !head_seen_) || transfer.body_bytes - bytes_at_mark_ >= least_bytes_) {
      head_seen_ = transfer.head_complete;
      bytes_at_mark_ = transfer.body_bytes;
      mark_ = now;
    }
    return now - mark_ > timeout_;
  }

 private:
  std::chrono::milliseconds timeout_;
  int64_t least_bytes_;
  Clock::time_point mark_ = Clock::now();
  int64_t bytes_at_mark_ = 0;
  bool head_seen_ = false;
};

bool is_temporary(CURLcode code) {
  constexpr std::array kTemporary = {CURLE_COULDNT_RESOLVE_PROXY,
                                     CURLE_COULDNT_RESOLVE_HOST,
                                     CURLE_COULDNT_CONNECT,
                                     CURLE_WEIRD_SERVER_REPLY,
                                     CURLE_HTTP2,
                                     CURLE_PARTIAL_FILE,
                                     CURLE_OPERATION_TIMEDOUT,
                                     CURLE_SSL_CONNECT_ERROR,
                                     CURLE_GOT_NOTHING,
                                     CURLE_SEND_ERROR,
                                     CURLE_RECV_ERROR,
                                     CURLE_BAD_CONTENT_ENCODING,
                                     CURLE_HTTP2_STREAM};
  return std::find(kTemporary.begin(), kTemporary.end(), code) != kTemporary.end();
}

[[noreturn]] void fail_transfer(const std::string& url, CURLcode code, const char* detail) {
  const std::string message = concat(origin_of(url), ": ", *detail != '\0' ? detail : curl_easy_strerror(code));
  if (is_temporary(code)) throw TemporaryFailure(message);
  if (code == CURLE_ABORTED_BY_CALLBACK) fail(ExitCode::unavailable, message, "; stopped on request");
  if (code == CURLE_PEER_FAILED_VERIFICATION)
    fail(ExitCode::unavailable, message,
         "; if your network has a certificate authority of its own, name its file with SSL_CERT_FILE");
  fail(ExitCode::unavailable, message);
}

}  // namespace

std::optional<std::string> HttpHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return std::nullopt;
}

std::optional<int64_t> HttpHead::number(std::string_view name) const {
  const std::string text = header(name).value_or("");
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

struct HttpClient::Handles {
  CURLM* multi = nullptr;
  CURL* easy = nullptr;
  std::string http_proxy, https_proxy;
  std::stop_token stop;
  char error_text[CURL_ERROR_SIZE] = "";

  ~Handles() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }

  // Performs the prepared request, and returns what libcurl says about it.
  CURLcode perform(const Transfer& transfer, const HttpRequest& request) {
    StallWatch watch(request.timeout);
    CURLcode code = CURLE_OK;
    curl_multi_add_handle(multi, easy);
    for (int running = 1; running > 0;) {
      if (curl_multi_perform(multi, &running) != CURLM_OK) code = CURLE_RECV_ERROR;
      if (running > 0 && watch.stalled(transfer)) code = CURLE_OPERATION_TIMEDOUT;
      if (running > 0 && stop.stop_requested()) code = CURLE_ABORTED_BY_CALLBACK;
      if (code != CURLE_OK) break;
      if (running > 0) curl_multi_poll(multi, nullptr, 0, 100, nullptr);
    }
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi, &left))
      if (message->msg == CURLMSG_DONE && code == CURLE_OK) code = message->data.result;
    curl_multi_remove_handle(multi, easy);
    return code;
  }
};

HttpClient::HttpClient(const HubSettings& settings) : handles_(std::make_unique<Handles>()) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  handles_->multi = curl_multi_init();
  handles_->easy = curl_easy_init();
  ECHO_CHECK(handles_->multi != nullptr && handles_->easy != nullptr, "libcurl: no memory for a transfer");
  handles_->stop = settings.stop;
  handles_->http_proxy = settings.http_proxy;
  handles_->https_proxy = settings.https_proxy;
  CURL* const easy = handles_->easy;
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // a proxy's answer is not the hub's
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, handles_->error_text);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, settings.user_agent.c_str());
  curl_easy_setopt(easy, CURLOPT_NOPROXY, settings.no_proxy.c_str());
  if (!settings.certificates_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, settings.certificates_file.c_str());
  if (!settings.certificates_folder.empty()) curl_easy_setopt(easy, CURLOPT_CAPATH, settings.certificates_folder.c_str());
}

HttpClient::~HttpClient() = default;

HttpHead HttpClient::get(const HttpRequest& request, const HttpReceiver& receiver) {
  Transfer transfer{receiver, {}, false, false, 0, nullptr};
  CURL* const easy = handles_->easy;
  curl_slist* headers = nullptr;
  for (const std::string& header : request.headers) headers = curl_slist_append(headers, header.c_str());
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, request.compressed ? "" : nullptr);
  // Always set, because libcurl would read the environment by rules of its own.
  const std::string& proxy = request.url.starts_with("https:") ? handles_->https_proxy : handles_->http_proxy;
  curl_easy_setopt(easy, CURLOPT_PROXY, proxy.c_str());
  handles_->error_text[0] = '\0';
  const CURLcode code = handles_->perform(transfer, request);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, nullptr);
  curl_slist_free_all(headers);
  if (transfer.problem) std::rethrow_exception(transfer.problem);
  if (code == CURLE_OPERATION_TIMEDOUT)
    throw TemporaryFailure(concat(origin_of(request.url),
                                  transfer.head_complete ? ": less than 1 KiB per second for " : ": no answer for ",
                                  request.timeout.count() / 1000, " s"));
  if (code != CURLE_OK && !transfer.stopped) fail_transfer(request.url, code, handles_->error_text);
  if (!transfer.head_complete) throw TemporaryFailure(origin_of(request.url) + ": no answer");
  return std::move(transfer.head);
}

}  // namespace echo
