#pragma once

#include <cuda_runtime.h>

namespace echo::cuda {

// The process's stream; made, with the device, at the first use.
cudaStream_t stream();

}  // namespace echo::cuda
