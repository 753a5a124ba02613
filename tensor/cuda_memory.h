#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tensor/allocator.h"
#include "tensor/device.h"

// The GPU as the rest of the program sees it, without CUDA's headers. A process computes on one GPU, on one stream: work and
// allocations happen in the order in which they are asked for, and the host waits only where it reads a result.
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

struct Block {
  void* address = nullptr;
  int64_t bytes = 0;
  int label = 0;
};
Block allocate(int64_t bytes, int index);  // aligned to 256 bytes
void free(const Block& block) noexcept;
MemoryStatistics memory_statistics();
void reset_memory_peak();
void release_cached_memory();  // waits, and gives what the pool keeps for reuse back to the device
int64_t free_memory();         // bytes that the device has left, the pool's unused ones included

void copy_to_device(void* device, const void* host, int64_t bytes);  // `host` may be reused at once
void copy_to_host(void* host, const void* device, int64_t bytes);    // waits
void copy_on_device(void* to, const void* from, int64_t bytes);
void fill_zero(void* device, int64_t bytes);
// Between strided blocks of the device; strides and extents in elements of `item` bytes (1, 2, 4 or 8).
void copy_strided(void* to, const int64_t* to_strides, const void* from, const int64_t* from_strides,
                  std::span<const int64_t> extents, int64_t item);
// Waits until everything asked for is done; throws what went wrong meanwhile.
void synchronize();

}  // namespace echo::cuda
