#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/allocator.h"

// Memory of the GPU that this process computes on (cuda_device.h), without CUDA's headers.
// Every function throws Error (device) naming the call that failed, and what to do where there is something to do.
namespace echo::cuda {

struct Block {
  void* address = nullptr;
  int64_t bytes = 0;
  int label = 0;
};
Block allocate(int64_t bytes, int index);  // aligned to 256 bytes
void free(const Block& block) noexcept;
MemoryStatistics memory_statistics();
void reset_memory_peak();
int64_t free_memory();  // bytes that the device has left, the pool's unused ones included

void copy_to_device(void* device, const void* host, int64_t bytes);  // `host` may be reused at once
void copy_to_host(void* host, const void* device, int64_t bytes);    // waits
void copy_on_device(void* to, const void* from, int64_t bytes);
void fill_zero(void* device, int64_t bytes);
// Between strided blocks of the device; strides and extents in elements of `item` bytes (1, 2, 4 or 8).
void copy_strided(void* to, const int64_t* to_strides, const void* from, const int64_t* from_strides,
                  std::span<const int64_t> extents, int64_t item);

}  // namespace echo::cuda
