#pragma once

#include <functional>

#include "autograd/variable.h"

namespace echo {

using Block = std::function<std::vector<Variable>(const std::vector<Variable>& inputs)>;

// block(inputs), keeping only inputs and outputs: what lies between is computed again in the backward pass. Parameters that the
// block uses get their gradients as usual, and call their gradient-ready hooks when the block is done. The block must give the
// same result each time it runs, and is copied: it captures by value. For a shared-attention model a block is a whole sharing
// block, never a part of one.
// Source: Chen et al. 2016, arXiv:1604.06174.
std::vector<Variable> with_recompute(const Block& block, const std::vector<Variable>& inputs);

}  // namespace echo
