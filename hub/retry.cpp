#include "hub/retry.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "base/progress.h"
#include "base/random.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLongestRateLimit = 310;  // seconds: the hub counts requests in windows of 300

std::mutex pause_mutex;
Clock::time_point pause_end;

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace

void pause_requests(double seconds) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  const std::lock_guard lock(pause_mutex);
  pause_end = std::max(pause_end, end);
}

void wait_for_paused_requests() {
  Clock::time_point end;
  {
    const std::lock_guard lock(pause_mutex);
    end = pause_end;
  }
  std::this_thread::sleep_until(end);
}

Patience::Patience(std::string what, Notice notice, int attempts)
    : what_(std::move(what)), notice_(std::move(notice)), attempts_(attempts) {}

double Patience::pause_after(int failure) const {
  const double middle = 0.5 * double(1 << std::clamp(failure - 1, 0, 4));
  return middle * (0.75 + 0.5 * Philox(XXH3_64bits(what_.data(), what_.size())).uniform(uint64_t(failure)));
}

bool Patience::wait_for_rate_limit(double seconds) {
  if (waited_for_limit_ + seconds > kLongestRateLimit) return false;
  waited_for_limit_ += seconds;
  if (notice_ && seconds >= 5) notice_(fmt::format("the hub limits the rate of requests; waiting {}", duration_text(seconds)));
  pause_requests(seconds);
  wait_for_paused_requests();
  return true;
}

void Patience::failed(const TemporaryFailure& failure) {
  if (failure.rate_limited() && failure.wait_seconds() && wait_for_rate_limit(*failure.wait_seconds() + 1)) return;
  ++failures_;
  if (failures_ >= attempts_ || failure.wait_seconds().value_or(0) > kLongestRateLimit)
    fail(ExitCode::unavailable, what_, ": ", failure.what(), " (given up after ", failures_,
         failures_ == 1 ? " attempt)" : " attempts); try again later");
  sleep(std::max(pause_after(failures_), failure.wait_seconds().value_or(0)));
}

}  // namespace echo
