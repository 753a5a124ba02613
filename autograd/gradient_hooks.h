#pragma once

#include <vector>

#include "autograd/variable.h"

namespace echo {

// Calls the gradient-ready hooks of one backward pass (Variable::set_gradient_ready_hook). A recomputed block runs an inner
// pass inside a node that uses the same leaves. So only the outermost pass of a thread calls hooks.
class GradientHooks {
 public:
  GradientHooks() : is_outermost_(depth_ == 0) { ++depth_; }
  // Also after an exception: resets the leaves that still wait for their hook.
  ~GradientHooks();
  GradientHooks(const GradientHooks&) = delete;
  GradientHooks& operator=(const GradientHooks&) = delete;

  // Call it when the pass has reached `leaf`. The leaf's hook will be called.
  void expect(const Variable& leaf);
  // Call it when an operation that uses `input` has run. Calls the hook if this was the leaf's last recorded use.
  void close_use(const Variable& input);
  // Call it before the first operation runs. Calls the hooks of reached leaves that no recorded operation uses.
  void call_complete();
  // Call it at the end of the pass. Calls the hooks of leaves that recorded operations outside this pass also use.
  void call_remaining();

  // Decrements the open uses of a leaf without calling its hook. Returns true when this was the last one.
  static bool count_down(const Variable& input);

 private:
  static void call(const Variable& leaf);

  static inline thread_local int depth_ = 0;
  const bool is_outermost_;
  std::vector<Variable> reached_;  // leaves with a hook
};

}  // namespace echo
