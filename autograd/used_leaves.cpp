#include "autograd/used_leaves.h"

#include <algorithm>

namespace echo {

void UsedLeaves::note(const std::vector<Variable>& inputs) {
  if (current_ == nullptr) return;
  for (const Variable& input : inputs)
    if (input.is_leaf() && input.requires_gradient()) current_->add(input);
}

void UsedLeaves::add(const Variable& leaf) {
  const auto same = [&](const Variable& other) { return other.state() == leaf.state(); };
  if (std::none_of(leaves_.begin(), leaves_.end(), same)) leaves_.push_back(leaf);
}

}  // namespace echo
