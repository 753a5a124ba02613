#pragma once

#include <cuda_runtime.h>

namespace echo::cuda {

// The process's stream; made, with the device, at the first use.
cudaStream_t stream();

// Around what a graph records. A graph frees only what it has made: memory from before that is freed meanwhile stays until the end,
// which returns how many allocations were made and not freed.
void begin_recording();
size_t end_recording() noexcept;

}  // namespace echo::cuda
