#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/device.h"

namespace echo {

// While this object lives, memory that this thread allocates for tensors is counted under `name` (a string literal). Labels
// nest:
// the innermost one counts.
//   MemoryLabel label("optimizer moments");
class MemoryLabel {
 public:
  explicit MemoryLabel(const char* name);
  ~MemoryLabel();
  MemoryLabel(const MemoryLabel&) = delete;
  MemoryLabel& operator=(const MemoryLabel&) = delete;

 private:
  const char* previous_;
};

// Sets the advice at the end of out-of-memory errors: what a user of this program can do. A string literal.
void set_memory_remedy(const char* remedy);

struct MemoryStatistics {
  int64_t in_use = 0;  // bytes held by tensors now, as reserved (rounded up)
  int64_t peak = 0;    // largest in_use since the last reset_peak()
  // bytes that no tensor holds, but that are kept for later tensors instead of being given back to the system
  int64_t cached = 0;
  int64_t largest_request = 0;  // bytes of the largest single request since the last reset_peak()
  struct Holder {
    std::string label;
    int64_t in_use = 0, peak = 0;
  };
  std::vector<Holder> holders;  // one per MemoryLabel, largest in_use first
};

// Statistics of the memory of one device. On a GPU, throws Error (device).
MemoryStatistics memory_statistics(Device device);
// Bytes that tensors may occupy in total: what they hold now plus what is free. -1 when the system does not say.
int64_t available_memory(Device device);
void reset_memory_peak(Device device);  // sets peaks to what is in use now
// Gives cached memory back to the system, so that other processes can use it. On a GPU it waits for the work in progress.
void release_cached_memory(Device device);

// Memory for tensors on the CPU. Blocks are aligned to 64 bytes. Blocks from 2 MiB on are aligned to 2 MiB and use huge pages.
// Freed blocks are kept by size, because a training step requests the same sizes again and again, and each fresh page costs a
// page fault. Thread-safe. Throws Error (device) when memory runs out; the message has the request, the total in use and the
// largest holders.
class CpuAllocator {
 public:
  static CpuAllocator& instance();

  struct Block {
    void* address = nullptr;
    int64_t bytes = 0;  // reserved bytes, which are also counted: at least the requested ones
    int label = 0;
  };
  Block allocate(int64_t bytes);
  void free(const Block& block) noexcept;

  MemoryStatistics statistics() const;
  void reset_peak();     // sets peaks to what is in use now
  void release_cache();  // gives cached blocks back to the system

 private:
  CpuAllocator() = default;
};

}  // namespace echo
