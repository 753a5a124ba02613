#pragma once

namespace echo {

// While one of these lives, operations of this thread record nothing: the teacher, evaluation and generation run without a
// tape.
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

// The opposite, inside a NoGrad scope: running a block again.
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
