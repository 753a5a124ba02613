#include <fstream>
#include <string>

#include "tensor/allocator.h"
#include "tensor/cuda_device.h"
#include "tensor/cuda_memory.h"

namespace echo {

MemoryStatistics memory_statistics(Device device) {
  if (!device.is_cpu()) {
    if constexpr (kWithCuda) return cuda::memory_statistics();
  }
  return CpuAllocator::instance().statistics();
}

int64_t available_memory(Device device) {
  if (!device.is_cpu()) {
    if constexpr (kWithCuda) return cuda::memory_statistics().in_use + cuda::free_memory();
  }
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;) {
    int64_t kibibytes = 0;
    if (word != "MemAvailable:" || !(file >> kibibytes)) continue;
    const MemoryStatistics held = CpuAllocator::instance().statistics();
    return (kibibytes << 10) + held.in_use + held.cached;
  }
  return -1;
}

void reset_memory_peak(Device device) {
  if (!device.is_cpu()) {
    if constexpr (kWithCuda) return cuda::reset_memory_peak();
  }
  CpuAllocator::instance().reset_peak();
}

void release_cached_memory(Device device) {
  if (!device.is_cpu()) {
    if constexpr (kWithCuda) return cuda::release_cached_memory();
  }
  CpuAllocator::instance().release_cache();
}

}  // namespace echo
