#pragma once

#include <cstdint>
#include <string>

// The GPU of this process, without CUDA's headers. A process computes on one GPU, on one stream: work and allocations happen in
// the order in which they are asked for, and the host waits only where it reads a result.
// Every function throws Error (device) with the call that failed, and the remedy if there is one.
namespace echo::cuda {

struct DeviceCount {
  int count = 0;       // usable GPUs; 0 when there is none
  int first = 0;       // index of the first usable one
  std::string reason;  // why none is usable
};
DeviceCount device_count();

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0, cache_bytes = 0;  // global memory, level-2 cache
  int64_t shared_bytes_per_block = 0;         // the maximum that a block may request
};
const DeviceProperties& properties();

// Chooses the GPU of this process. Call it before the first allocation; otherwise that chooses the first usable GPU. Throws
// Error when another GPU was chosen before.
void use_device(int index);

// Waits until all submitted work is done. Throws the errors of that work.
void synchronize();
// Waits, then gives the pool's cached memory back to the device.
void release_cached_memory();

}  // namespace echo::cuda
