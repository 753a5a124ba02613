#pragma once

#include <utility>
#include <vector>

#include "autograd/backward_function.h"
#include "autograd/variable.h"

// Recording operations, and the pass back over what was recorded.
namespace echo {

// Makes the output of an operation. Nothing is recorded under NoGrad, or when no input requires a gradient.
Variable record(const char* operation, std::vector<Variable> inputs, Tensor output, Backward backward);

// The same for several outputs.
std::vector<Variable> record_many(const char* operation, std::vector<Variable> inputs, std::vector<Tensor> outputs,
                                  BackwardOfMany backward, RunBackward when = RunBackward::with_gradient);

// One backward pass from several variables at once, each with the gradient that reaches it from outside the tape. Throws Error
// when nothing was recorded for one of them, when a part of their graph was already passed, or when a gradient does not fit.
void backward(std::vector<std::pair<Variable, Tensor>> roots);

}  // namespace echo
