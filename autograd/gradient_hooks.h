#pragma once

#include <vector>

#include "autograd/variable.h"

namespace echo {

// Calls the gradient-ready hooks of one backward pass (Variable::set_gradient_ready_hook). A recomputed block runs a pass of
// its own inside a node that uses the same leaves: only the outermost pass of a thread calls hooks.
class GradientHooks {
 public:
  GradientHooks() : is_outermost_(depth_ == 0) { ++depth_; }
  // After an exception too: no leaf goes on waiting for this pass.
  ~GradientHooks();
  GradientHooks(const GradientHooks&) = delete;
  GradientHooks& operator=(const GradientHooks&) = delete;

  // The pass has reached this leaf: its hook is due.
  void expect(const Variable& leaf);
  // An operation that uses `input` has run. Calls the hook when it was the leaf's last recorded use.
  void close_use(const Variable& input);
  // At the end of the pass: leaves that other recorded operations use too. This pass has nothing more for them.
  void call_remaining();

  // Counts one use of a leaf down without calling a hook; returns whether it was the last one.
  static bool count_down(const Variable& input);

 private:
  static void call(const Variable& leaf);

  static inline thread_local int depth_ = 0;
  const bool is_outermost_;
  std::vector<Variable> reached_;  // leaves with a hook
};

}  // namespace echo
