#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "tensor/memory_account.h"

namespace echo::cuda {

// Memory for the tensors that recorded work makes and drops: they are in the same places whenever the work runs. A graph could
// allocate by itself, but each allocation would then stand between two kernels that may otherwise overlap (launch_early()).
class RecordedMemory {
 public:
  // What it holds counts in `account`; `pool` gives up what it keeps for reuse where there is no other memory.
  RecordedMemory(MemoryAccount& account, cudaMemPool_t pool) : account_(account), pool_(pool) {}
  RecordedMemory(const RecordedMemory&) = delete;
  ~RecordedMemory();  // nothing that uses it may be under way

  // The smallest idle block that is large enough, or a new one; null: the device has none. While a graph records.
  void* take(int64_t bytes);
  // False: not taken from here.
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

// Around what a graph records. Tensors made meanwhile are in memory that is the recorded work's: the end returns it. Memory
// from before that is freed meanwhile stays until then.
void begin_recording();
std::unique_ptr<RecordedMemory> end_recording() noexcept;
bool is_recording();
// Keeps memory that tensors still use, which nobody else will free.
void abandon(std::unique_ptr<RecordedMemory> memory);

}  // namespace echo::cuda
