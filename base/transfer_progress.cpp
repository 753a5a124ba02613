#include "base/transfer_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "base/progress.h"

namespace echo {

TransferProgress::TransferProgress(bool wanted) : wanted_(wanted && ::isatty(STDERR_FILENO) == 1) {}

TransferProgress::~TransferProgress() { clear(); }

void TransferProgress::clear() {
  if (drawn_) std::fputs("\r\x1b[2K", stderr);
  drawn_ = false;
}

void TransferProgress::print(const std::string& line) {
  clear();
  fmt::print(stderr, "{}\n", line);
}

void TransferProgress::update(int64_t have, int64_t size) {
  const auto now = Clock::now();
  if (!wanted_ || (drawn_ && now - last_draw_ < std::chrono::milliseconds(200))) return;
  if (first_have_ < 0 || have < first_have_) {  // what an earlier run left does not count for the rate
    first_have_ = have;
    start_ = now;
  }
  last_draw_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? double(have - first_have_) / seconds : 0;  // bytes per second
  const std::string of =
      size > 0 ? fmt::format(" of {:.1f} MB, {:.0f} %", double(size) * 1e-6, 100.0 * double(have) / double(size)) : " MB";
  const std::string left = size > 0 && rate > 0 ? ", " + duration_text(double(size - have) / rate) + " left" : "";
  fmt::print(stderr, "\r\x1b[2K{:.1f}{}, {:.1f} MB/s{}", double(have) * 1e-6, of, rate * 1e-6, left);
  std::fflush(stderr);
}

}  // namespace echo
