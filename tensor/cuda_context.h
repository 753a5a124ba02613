#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "tensor/cuda_memory.h"
#include "tensor/cuda_recorded_memory.h"

namespace echo::cuda {

// The process's stream; made, with the device, at the first use.
cudaStream_t stream();

// Around what a graph records. Tensors made meanwhile are in memory that is the recorded work's: the end returns it. Memory
// from before that is freed meanwhile stays until then.
void begin_recording();
std::unique_ptr<RecordedMemory> end_recording() noexcept;
bool is_recording();
// Keeps memory that tensors still use, which nobody else will free.
void abandon(std::unique_ptr<RecordedMemory> memory);

// Whether the GPU can start kernels before the one before them has ended; ECHOATT_EARLY=0 in the environment: no, to compare.
bool may_launch_early();

// What `call` returns. Where it finds no memory, what the pool keeps for reuse goes back to the device, and it is called once
// more: the pool would keep it from everything that does not allocate from the pool, a kernel's code too. Not while a graph
// records, where nothing may wait.
template <class Call>
cudaError_t with_memory_released(const Call& call) {
  const cudaError_t status = call();
  if (status != cudaErrorMemoryAllocation || is_recording()) [[likely]]
    return status;
  (void)cudaGetLastError();
  release_cached_memory();
  return call();
}

}  // namespace echo::cuda
