#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace echo {

// "45 s", "3 min 20 s" or "2 h 05 min". "-" for a number that is negative or not finite.
std::string duration_text(double seconds);

// A progress bar on stderr with percentage and estimated time left. A terminal shows it in one line that is redrawn. Otherwise
// it prints a plain line about every tenth, or nothing when `plain_lines` is false (for callers that print lines of their own).
class Progress {
 public:
  Progress(std::string label, int64_t total, bool plain_lines = true);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(int64_t done);
  void clear();  // removes the bar so that a line can be printed; the next update() draws it again

 private:
  std::string label_;
  int64_t total_, done_ = 0, tenths_ = 0;
  bool terminal_, plain_lines_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
  int64_t first_done_ = -1;
};

}  // namespace echo
