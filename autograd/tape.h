#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "autograd/variable.h"

// Recording operations, and the pass back over what was recorded.
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

// Makes the output of an operation. Nothing is recorded under NoGrad, or when no input requires a gradient.
Variable record(const char* operation, std::vector<Variable> inputs, Tensor output, Backward backward);

// The same for several outputs.
std::vector<Variable> record_many(const char* operation, std::vector<Variable> inputs, std::vector<Tensor> outputs,
                                  BackwardOfMany backward, RunBackward when = RunBackward::with_gradient);

// One backward pass from several variables at once, each with the gradient that reaches it from outside the tape. Throws Error
// when nothing was recorded for one of them, when a part of their graph was already passed, or when a gradient does not fit.
void backward(std::vector<std::pair<Variable, Tensor>> roots);

}  // namespace echo
