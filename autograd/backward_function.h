#pragma once

#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace echo {

// What a backward function returns: one tensor per input, undefined where an input needs none (or has it already,
// GradientTarget). A returned tensor has its input's shape and dtype, or the accumulator dtype for a leaf.
using Gradients = std::vector<Tensor>;

// For an operation with one output: gets the gradient of the output. Captures tensors by value, never the output variable.
using Backward = std::function<Gradients(const Tensor& output_gradient)>;
// For several outputs: a gradient is undefined where nothing depended on that output.
using BackwardOfMany = std::function<Gradients(const std::vector<Tensor>& output_gradients)>;

// A node whose output gradients are all undefined is skipped, unless it `always` runs: a leader of shared attention finishes
// the gradients that its followers left for it, even if nothing else used its own output.
enum class RunBackward { with_gradient, always };

}  // namespace echo
