#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace echo {

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  const int64_t whole = int64_t(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string label, int64_t total, bool plain_lines)
    : label_(std::move(label)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      plain_lines_(plain_lines),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) std::fputs("\r\x1b[2K", stderr);
  drawn_ = false;
}

void Progress::update(int64_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (first_done_ < 0) {  // a resumed run starts in the middle, so the rate counts from here
    first_done_ = done;
    start_ = now;
  }
  done_ = done;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double left = done > first_done_ ? elapsed / double(done - first_done_) * double(total_ - done) : NAN;
  const double share = total_ > 0 ? double(done) / double(total_) : 1.0;
  if (terminal_) {
    if (drawn_ && done < total_ && now - last_draw_ < std::chrono::milliseconds(100)) return;
    last_draw_ = now;
    constexpr int kWidth = 30;
    const int filled = int(std::clamp(share, 0.0, 1.0) * kWidth);
    fmt::print(stderr, "\r\x1b[2K{} [{}{}] {}/{} {:.0f} %  {} left", label_, std::string(size_t(filled), '#'),
               std::string(size_t(kWidth - filled), '.'), done, total_, 100 * share, duration_text(left));
    std::fflush(stderr);
    drawn_ = true;
  } else if (plain_lines_) {
    const int64_t tenths = int64_t(share * 10);
    if (tenths == tenths_) return;
    tenths_ = tenths;
    fmt::print(stderr, "{}: {}/{}, {} left\n", label_, done, total_, duration_text(left));
  }
}

}  // namespace echo
