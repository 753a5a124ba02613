#pragma once

#include "config/train_config.h"
#include "tensor/dtype.h"

namespace echo {

// The dtypes that a configuration asks for.

// Of the activations; parameters and optimizer have its accumulator_dtype().
DType compute_dtype_of(const TrainConfig& config);

// In which the teacher's weights are held. `stored`: as its files have them.
DType teacher_dtype_of(const TrainConfig& config, DType stored);

}  // namespace echo
