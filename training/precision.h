#pragma once

#include "config/train_config.h"
#include "tensor/dtype.h"

namespace echo {

// The dtypes of a configuration.

// The dtype of activations. Parameters and optimizer have its accumulator_dtype().
DType compute_dtype_of(const TrainConfig& config);

// The dtype of the teacher's weights in memory. `stored`: their dtype in the files.
DType teacher_dtype_of(const TrainConfig& config, DType stored);

}  // namespace echo
