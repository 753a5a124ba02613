#pragma once

#include <cstdint>
#include <functional>

#include "autograd/shared_attention.h"

namespace echo {

// Receives each matrix of probabilities that a forward pass computes, once per layer with its own matrix, in the order of
// layers. It may keep the tensors, which nothing overwrites later.
using AttentionObserver = std::function<void(int64_t layer, const SharedProbabilities& probabilities)>;

}  // namespace echo
