#pragma once

#include <cuda_runtime.h>

#include "tensor/cuda_device.h"
#include "tensor/cuda_recorded_memory.h"

namespace echo::cuda {

// The GPU, stream and memory pool of this process. The first use creates them.
struct Context {
  int index = -1;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  DeviceProperties properties;
};
// `index`: the GPU that the caller requires, or -1 for any. Throws Error when the process computes on another GPU, and Error
// (device) when there is no usable GPU.
const Context& context(int index = -1);
inline cudaStream_t stream() { return context().stream; }

// True when the GPU can start a kernel before the previous one has ended. ECHOATT_EARLY=0 in the environment makes it false,
// for comparisons.
bool may_launch_early();

// Returns the status of `call`. When that is out of memory, it first gives the pool's cached memory back to the device and
// calls `call` once more. Otherwise the cache would block everything that does not allocate from the pool, even loading a
// kernel's code.
// It does not retry while a graph records, because then nothing may wait.
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
