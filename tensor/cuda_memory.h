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
int64_t free_memory();  // free bytes of the device, including unused ones of the pool

void copy_to_device(void* device, const void* host, int64_t bytes);  // the caller may change `host` at once
void copy_to_host(void* host, const void* device, int64_t bytes);    // waits until the copy is done
// Locks the pages of `host` in main memory until unlock_pages(). Copies to them then run at the full rate of the bus. Returns
// false when the system refuses, which makes copies slower and has no other effect.
bool lock_pages(void* host, int64_t bytes);
void unlock_pages(void* host) noexcept;
// Does not wait: later operations of the stream see the copy. The two ranges must not overlap.
void copy_on_device(void* to, const void* from, int64_t bytes);
void fill_zero(void* device, int64_t bytes);  // does not wait
// Copies between strided blocks on the device. Strides and extents count elements of `item` bytes (1, 2, 4 or 8). Does not
// wait.
void copy_strided(void* to, const int64_t* to_strides, const void* from, const int64_t* from_strides,
                  std::span<const int64_t> extents, int64_t item);

}  // namespace echo::cuda
