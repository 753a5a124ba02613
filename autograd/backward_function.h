#pragma once

#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace echo {

// The result of a backward function: one tensor per input. A tensor is undefined where the input needs no gradient, or already
// received it through a GradientTarget. Each tensor has its input's shape and dtype, or the accumulator dtype for a leaf.
using Gradients = std::vector<Tensor>;

// For an operation with one output. The argument is the gradient of that output. The function captures tensors by value, never
// the output variable.
using Backward = std::function<Gradients(const Tensor& output_gradient)>;
// For an operation with several outputs. A gradient is undefined where nothing depended on that output.
using BackwardOfMany = std::function<Gradients(const std::vector<Tensor>& output_gradients)>;

// A backward pass skips a node whose output gradients are all undefined, unless the node `always` runs. The leader of shared
// attention always runs: it finishes the gradients that its followers left for it, even if nothing else used its own output.
enum class RunBackward { with_gradient, always };

}  // namespace echo
