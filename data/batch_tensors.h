#pragma once

#include "data/data_loader.h"
#include "tensor/tensor.h"

namespace echo {

// Token ids, labels and first keys of a batch as tensors on a device.
struct BatchTensors {
  Tensor ids;        // (B, T) i32
  Tensor labels;     // (B * T) i32
  Tensor first_key;  // (B, T) i32, or undefined when attention may cross document borders
};

// Copies the batch to `device`. Throws Error when the number of tokens is not rows * sequence_length; Error (device) when the
// device has no memory left.
BatchTensors to_tensors(const Batch& batch, Device device);

}  // namespace echo
