#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "tensor/memory_account.h"

namespace echo::cuda {

// Memory for the tensors that recorded work makes and frees. The tensors have the same addresses in every run of the work. A
// graph could allocate memory itself, but each allocation would separate two kernels that can otherwise overlap
// (launch_early()).
class RecordedMemory {
 public:
  // The memory is counted in `account`. `pool` gives up its cached memory when the device has no other.
  RecordedMemory(MemoryAccount& account, cudaMemPool_t pool) : account_(account), pool_(pool) {}
  RecordedMemory(const RecordedMemory&) = delete;
  ~RecordedMemory();  // no work that uses the memory may be running

  // For use while a graph records: the smallest idle block that is large enough, or a new one. Null when the device has no
  // memory left. Throws Error (device) for any other CUDA error.
  void* take(int64_t bytes);
  // Returns false when `address` was not taken from here.
  bool give_back(void* address);
  size_t taken() const { return taken_.size(); }

 private:
  struct Block {
    void* address;
    int64_t bytes;
    int label;
  };
  void* take_from_device(int64_t bytes) const;

  MemoryAccount& account_;
  cudaMemPool_t pool_;
  std::vector<Block> blocks_;
  std::multimap<int64_t, void*> idle_;
  std::map<void*, int64_t> taken_;
};

// begin_recording() and end_recording() enclose what a graph records. Tensors allocated in between get memory that belongs to
// the recorded work; end_recording() returns it. Older memory that is freed in between stays allocated until end_recording().
void begin_recording();
std::unique_ptr<RecordedMemory> end_recording() noexcept;
bool is_recording();
// Takes over memory that some tensors still use, so that it stays valid. It is never freed.
void abandon(std::unique_ptr<RecordedMemory> memory);

}  // namespace echo::cuda
