#pragma once

namespace echo {

// While an object of this class lives, SIGINT (Ctrl-C) and SIGTERM only set a flag (`requested`). A second signal ends the
// program at once. At most one object may exist at a time. The main thread makes it.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  bool requested() const;
};

}  // namespace echo
