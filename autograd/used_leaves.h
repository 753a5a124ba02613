#pragma once

#include <vector>

#include "autograd/variable.h"

namespace echo {

// Collects the leaves with gradient that operations of this thread use while it lives, under NoGrad too: what a block that is
// recomputed later depends on beside its inputs.
class UsedLeaves {
 public:
  UsedLeaves() : previous_(current_) { current_ = this; }
  ~UsedLeaves() { current_ = previous_; }
  UsedLeaves(const UsedLeaves&) = delete;
  UsedLeaves& operator=(const UsedLeaves&) = delete;

  const std::vector<Variable>& leaves() const { return leaves_; }  // each once, in order of first use

  // For the tape: an operation reads these inputs.
  static void note(const std::vector<Variable>& inputs);

 private:
  void add(const Variable& leaf);

  static inline thread_local UsedLeaves* current_ = nullptr;
  UsedLeaves* previous_;
  std::vector<Variable> leaves_;
};

}  // namespace echo
