#pragma once

#include <cuda_runtime.h>

#include "tensor/cuda_device.h"
#include "tensor/cuda_recorded_memory.h"

namespace echo::cuda {

// What the process computes with; made at the first use.
struct Context {
  int index = -1;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  DeviceProperties properties;
};
// `index`: the GPU that the caller means, -1: whichever it is. Throws Error when the process computes on another.
const Context& context(int index = -1);
inline cudaStream_t stream() { return context().stream; }

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
