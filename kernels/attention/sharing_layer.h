#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// The contribution of one layer of a block to the gradient of the shared matrix: the gradient of its output, and its values.
struct SharingLayer {
  Tensor d_o, v;
};

}  // namespace echo::kernels
