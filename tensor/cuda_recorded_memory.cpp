#include "tensor/cuda_recorded_memory.h"

#include <algorithm>

#include "tensor/cuda_error.h"

namespace echo::cuda {

RecordedMemory::~RecordedMemory() {
  for (const Piece& piece : pieces_) {
    (void)cudaFree(piece.address);  // fails only after an error that ends the run anyway
    account_.remove(piece.bytes, piece.label);
  }
}

void* RecordedMemory::take(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 1);
  auto found = idle_.lower_bound(bytes);
  if (found == idle_.end()) {
    // Not the stream's memory: what is asked of the stream now is recorded. And cudaMalloc is refused to a thread that records, unless
    // it says that it knows what it does.
    Piece piece{nullptr, bytes, 0};
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    ECHO_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
    const cudaError_t status = cudaMalloc(&piece.address, size_t(bytes));
    ECHO_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return nullptr;
    }
    check(status, "cudaMalloc of ", bytes, " bytes");
    piece.label = account_.add(bytes, bytes);
    pieces_.push_back(piece);
    found = idle_.emplace(bytes, piece.address);
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
