#include "hub/retry.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/progress.h"
#include "base/random.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLongestRateLimit = 310;  // seconds: the hub counts requests in windows of 300

std::mutex pause_mutex;
Clock::time_point pause_end;

// Ends early, with an Error (unavailable), when `stop` is requested.
void sleep_until(Clock::time_point end, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_until(lock, stop, end, [] { return false; });
  if (stop.stop_requested()) fail(ExitCode::unavailable, "stopped on request while waiting for the hub");
}

Clock::time_point seconds_from_now(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

void pause_requests(double seconds) {
  const auto end = seconds_from_now(seconds);
  const std::lock_guard lock(pause_mutex);
  pause_end = std::max(pause_end, end);
}

void wait_for_paused_requests(const std::stop_token& stop) {
  Clock::time_point end;
  {
    const std::lock_guard lock(pause_mutex);
    end = pause_end;
  }
  sleep_until(end, stop);
}

Patience::Patience(std::string what, Notice notice, int attempts, std::stop_token stop)
    : what_(std::move(what)), notice_(std::move(notice)), attempts_(attempts), stop_(std::move(stop)) {}

double Patience::pause_after(int failure) const {
  const double middle = 0.5 * double(1 << std::clamp(failure - 1, 0, 4));
  return middle * (0.75 + 0.5 * Philox(XXH3_64bits(what_.data(), what_.size())).uniform(uint64_t(failure)));
}

bool Patience::wait_for_rate_limit(double seconds) {
  if (waited_for_limit_ + seconds > kLongestRateLimit) return false;
  waited_for_limit_ += seconds;
  if (notice_ && seconds >= 5) notice_(fmt::format("the hub limits the rate of requests; waiting {}", duration_text(seconds)));
  pause_requests(seconds);
  wait_for_paused_requests(stop_);
  return true;
}

void Patience::failed(const TemporaryFailure& failure) {
  if (failure.rate_limited() && failure.wait_seconds() && wait_for_rate_limit(*failure.wait_seconds() + 1)) return;
  ++failures_;
  if (failures_ >= attempts_ || failure.wait_seconds().value_or(0) > kLongestRateLimit)
    fail(ExitCode::unavailable, what_, ": ", failure.what(), " (given up after ", failures_,
         failures_ == 1 ? " attempt)" : " attempts); try again later");
  sleep_until(seconds_from_now(std::max(pause_after(failures_), failure.wait_seconds().value_or(0))), stop_);
}

}  // namespace echo
