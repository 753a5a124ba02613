#pragma once

#include <vector>

#include "autograd/variable.h"

namespace echo {

// While an object of this class lives, it collects the leaves with gradient that operations of this thread use, even under
// NoGrad.
// A block that is computed again later depends on them in addition to its inputs.
class UsedLeaves {
 public:
  UsedLeaves() : previous_(current_) { current_ = this; }
  ~UsedLeaves() { current_ = previous_; }
  UsedLeaves(const UsedLeaves&) = delete;
  UsedLeaves& operator=(const UsedLeaves&) = delete;

  const std::vector<Variable>& leaves() const { return leaves_; }  // each leaf once, in order of first use

  // The tape calls this when an operation reads `inputs`.
  static void note(const std::vector<Variable>& inputs);

 private:
  void add(const Variable& leaf);

  static inline thread_local UsedLeaves* current_ = nullptr;
  UsedLeaves* previous_;
  std::vector<Variable> leaves_;
};

}  // namespace echo
