#pragma once

#include <functional>

#include "autograd/variable.h"

namespace echo {

using Block = std::function<std::vector<Variable>(const std::vector<Variable>& inputs)>;

// Computes block(inputs) and keeps only inputs and outputs. The backward pass computes the rest again. Parameters that the
// block uses get their gradients as usual, and their gradient-ready hooks are called when the block is done. The block must
// give the same result each time it runs. It is copied, so it captures by value. In a model with shared attention it must
// contain whole sharing blocks.
// Source: Chen et al. 2016, arXiv:1604.06174.
std::vector<Variable> with_recompute(const Block& block, const std::vector<Variable>& inputs);

}  // namespace echo
