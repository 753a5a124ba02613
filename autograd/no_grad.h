#pragma once

namespace echo {

// While an object of this class lives, operations of this thread record nothing. The teacher, evaluation and generation run
// this way.
class NoGrad {
 public:
  NoGrad() : previous_(recording) { recording = false; }
  ~NoGrad() { recording = previous_; }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

  static bool is_active() { return !recording; }

 private:
  friend class Recording;
  static inline thread_local bool recording = true;
  bool previous_;
};

// Switches recording on inside a NoGrad scope, for a block that is computed again.
class Recording {
 public:
  Recording() : previous_(NoGrad::recording) { NoGrad::recording = true; }
  ~Recording() { NoGrad::recording = previous_; }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  bool previous_;
};

}  // namespace echo
