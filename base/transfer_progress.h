#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace echo {

// Shows on stderr how far a download is. A terminal shows bytes, rate and time left in one line that is redrawn. Elsewhere it
// prints nothing but the lines of print().
class TransferProgress {
 public:
  explicit TransferProgress(bool wanted = true);
  ~TransferProgress();  // clears the line
  TransferProgress(const TransferProgress&) = delete;
  TransferProgress& operator=(const TransferProgress&) = delete;

  void update(int64_t have, int64_t size);  // bytes; size 0: unknown
  void print(const std::string& line);      // a line of its own
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool wanted_, drawn_ = false;
  int64_t first_have_ = -1;
  Clock::time_point start_, last_draw_;
};

}  // namespace echo
