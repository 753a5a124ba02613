#include "tensor/cuda_recorded_memory.h"

#include <algorithm>

#include "tensor/cuda_error.h"

namespace echo::cuda {

RecordedMemory::~RecordedMemory() {
  for (const Block& block : blocks_) {
    (void)cudaFree(block.address);  // fails only after an error that ends the run anyway
    account_.remove(block.bytes, block.label);
  }
}

// Uses cudaMalloc, because an allocation on the stream would be recorded. During capture cudaMalloc fails unless the thread is
// in relaxed mode.
void* RecordedMemory::take_from_device(int64_t bytes) const {
  void* address = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  ECHO_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
  cudaError_t status = cudaMalloc(&address, size_t(bytes));
  if (status == cudaErrorMemoryAllocation && cudaMemPoolTrimTo(pool_, 0) == cudaSuccess)
    status = cudaMalloc(&address, size_t(bytes));
  (void)cudaGetLastError();
  ECHO_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
  if (status == cudaErrorMemoryAllocation) return nullptr;
  check(status, "cudaMalloc of ", bytes, " bytes");
  return address;
}

void* RecordedMemory::take(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 1);
  auto found = idle_.lower_bound(bytes);
  if (found == idle_.end()) {
    Block block{take_from_device(bytes), bytes, 0};
    if (block.address == nullptr) return nullptr;
    block.label = account_.add(bytes, bytes);
    blocks_.push_back(block);
    found = idle_.emplace(bytes, block.address);
  }
  void* const address = found->second;
  taken_[address] = found->first;
  idle_.erase(found);
  return address;
}

bool RecordedMemory::give_back(void* address) {
  const auto found = taken_.find(address);
  if (found == taken_.end()) return false;
  idle_.emplace(found->second, address);
  taken_.erase(found);
  return true;
}

}  // namespace echo::cuda
