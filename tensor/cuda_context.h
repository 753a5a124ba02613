#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "tensor/cuda_recorded_memory.h"

namespace echo::cuda {

// The process's stream; made, with the device, at the first use.
cudaStream_t stream();

// Around what a graph records. Tensors made meanwhile are in memory that is the recorded work's: the end returns it. Memory from before
// that is freed meanwhile stays until then.
void begin_recording();
std::unique_ptr<RecordedMemory> end_recording() noexcept;
// Keeps memory that tensors still use, which nobody else will free.
void abandon(std::unique_ptr<RecordedMemory> memory);

}  // namespace echo::cuda
