#include "autograd/gradient_hooks.h"

#include "autograd/node.h"

namespace echo {

GradientHooks::~GradientHooks() {
  --depth_;
  for (const Variable& leaf : reached_) leaf.state()->hook_pending = false;
}

void GradientHooks::expect(const Variable& leaf) {
  VariableState& state = *leaf.state();
  if (!is_outermost_ || state.hook_pending || !state.ready_hook) return;
  state.hook_pending = true;
  reached_.push_back(leaf);
}

void GradientHooks::close_use(const Variable& input) {
  if (count_down(input) && is_outermost_) call(input);
}

void GradientHooks::call_complete() {
  for (const Variable& leaf : reached_)
    if (leaf.state()->open_uses == 0) call(leaf);
}

void GradientHooks::call_remaining() {
  for (const Variable& leaf : reached_) call(leaf);
}

bool GradientHooks::count_down(const Variable& input) { return input.is_leaf() && --input.state()->open_uses == 0; }

void GradientHooks::call(const Variable& leaf) {
  VariableState& state = *leaf.state();
  if (!state.hook_pending) return;
  state.hook_pending = false;
  if (state.ready_hook) state.ready_hook();
}

}  // namespace echo
