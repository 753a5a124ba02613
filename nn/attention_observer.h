#pragma once

#include <cstdint>
#include <functional>

#include "autograd/shared_attention.h"

namespace echo {

// Gets each matrix of probabilities that a forward pass computes, once per layer that has one of its own, in order of the
// layers. The tensors may be kept: they belong to this pass.
using AttentionObserver = std::function<void(int64_t layer, const SharedProbabilities& probabilities)>;

}  // namespace echo
