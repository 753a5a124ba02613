#include "tensor/allocator.h"
#include "tensor/cuda_memory.h"

namespace echo {

MemoryStatistics memory_statistics(Device device) {
  if (!device.is_cpu()) {
    if constexpr (kWithCuda) return cuda::memory_statistics();
  }
  return CpuAllocator::instance().statistics();
}

void reset_memory_peak(Device device) {
  if (!device.is_cpu()) {
    if constexpr (kWithCuda) return cuda::reset_memory_peak();
  }
  CpuAllocator::instance().reset_peak();
}

}  // namespace echo
