#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// What one layer of a block contributes to the gradient of the shared matrix: the gradient of its output, and its values.
struct SharingLayer {
  Tensor d_o, v;
};

}  // namespace echo::kernels
