#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "base/error.h"

namespace echo {

// A failure after which another attempt may succeed. It has the exit code of the hub being away (unavailable).
class TemporaryFailure : public Error {
 public:
  explicit TemporaryFailure(const std::string& message) : Error(ExitCode::unavailable, message) {}
  TemporaryFailure(const std::string& message, std::optional<double> wait_seconds, bool rate_limited)
      : Error(ExitCode::unavailable, message), wait_seconds_(wait_seconds), rate_limited_(rate_limited) {}

  std::optional<double> wait_seconds() const { return wait_seconds_; }  // what the server asked for
  bool rate_limited() const { return rate_limited_; }                   // too many requests: waiting is all that is needed

 private:
  std::optional<double> wait_seconds_;
  bool rate_limited_ = false;
};

// Tells the user something in one line, for example that a pause is long. May be empty.
using Notice = std::function<void(const std::string&)>;

constexpr int kMostAttempts = 6;

// Counts attempts at one thing and pauses between them: 0.5, 1, 2, 4 and 8 seconds, each 25 % more or less. Six failures
// without progress between them end it. A rate limit whose end the server names is no failure until 310 seconds were waited.
class Patience {
 public:
  // `what` is tried, and chooses the random part of the pauses.
  Patience(std::string what, Notice notice, int attempts = kMostAttempts, std::stop_token stop = {});

  void progressed() { failures_ = 0; }

  // Pauses. Throws Error (unavailable) with the last cause when this was the last attempt or `stop` is requested.
  void failed(const TemporaryFailure& failure);

  // The pause after failure number `failure`, from 1. Seconds.
  double pause_after(int failure) const;

 private:
  bool wait_for_rate_limit(double seconds);

  std::string what_;
  Notice notice_;
  int attempts_;
  std::stop_token stop_;
  int failures_ = 0;
  double waited_for_limit_ = 0;  // seconds
};

// The hub counts all requests of the process together: none to it begins before the pause ends.
void pause_requests(double seconds);
void wait_for_paused_requests(const std::stop_token& stop = {});

}  // namespace echo
