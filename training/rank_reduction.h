#pragma once

#include "communication/communicator.h"
#include "nn/module.h"
#include "training/distillation.h"

namespace echo {

// What the ranks of a run make equal on all of them, beside the gradients (gradient_buckets.h). With one rank these functions
// do nothing. All ranks call them together.

// Copies the first rank's parameters to all ranks. Compute copies are not renewed.
void broadcast_parameters(Communicator& communicator, Module& module);

// The sums of all ranks, with the same bits on all of them. A sum that is not finite on one rank is not finite on all.
LossSums sum_over_ranks(Communicator& communicator, LossSums sums);

}  // namespace echo
