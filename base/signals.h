#pragma once

namespace echo {

// While one of these lives, SIGINT (Ctrl-C) and SIGTERM ask the program to stop instead of ending it; a second signal ends it
// at once. One at a time.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  bool requested() const;
};

}  // namespace echo
