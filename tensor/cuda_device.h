#pragma once

#include <cstdint>
#include <string>

// The GPU of this process, without CUDA's headers. A process computes on one GPU, on one stream: work and allocations happen in
// the order in which they are asked for, and the host waits only where it reads a result.
// Every function throws Error (device) naming the call that failed, and what to do where there is something to do.
namespace echo::cuda {

struct DeviceCount {
  int count = 0;
  int first = 0;       // that this program can use
  std::string reason;  // why there is none
};
DeviceCount device_count();

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0, cache_bytes = 0;  // global memory, second-level cache
  int64_t shared_bytes_per_block = 0;         // the most a block may ask for
};
const DeviceProperties& properties();

// Chooses the GPU of this process: before the first allocation (the first one is chosen otherwise); a second choice throws.
void use_device(int index);

// Waits until everything asked for is done; throws what went wrong meanwhile.
void synchronize();
// Waits, and gives what the pool keeps for reuse back to the device.
void release_cached_memory();

}  // namespace echo::cuda
