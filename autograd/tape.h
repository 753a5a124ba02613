#pragma once

#include <utility>
#include <vector>

#include "autograd/backward_function.h"
#include "autograd/variable.h"

// Recording operations, and the backward pass over the recorded graph.
namespace echo {

// Makes the output variable of an operation. Records nothing under NoGrad, or when no input requires a gradient. `operation` is
// a name for messages, a string literal.
Variable record(const char* operation, std::vector<Variable> inputs, Tensor output, Backward backward);

// As record(), for an operation with several outputs.
std::vector<Variable> record_many(const char* operation, std::vector<Variable> inputs, std::vector<Tensor> outputs,
                                  BackwardOfMany backward, RunBackward when = RunBackward::with_gradient);

// Runs one backward pass from several variables at once. Each comes with its gradient, which was computed outside the tape.
// Throws Error when nothing was recorded for one of them, when an earlier pass already used a part of their graph, or when a
// gradient has the wrong shape or dtype.
void backward(std::vector<std::pair<Variable, Tensor>> roots);

}  // namespace echo
