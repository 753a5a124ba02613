#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/device.h"

namespace echo {

// Everything that tensors allocate from inside a scope of this thread is counted under `name` (a string literal):
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

// What a user of this program can do when memory runs out, for the error's last words; a string literal.
void set_memory_remedy(const char* remedy);

struct MemoryStatistics {
  int64_t in_use = 0;           // bytes held by tensors now
  int64_t peak = 0;             // largest in_use since the last reset_peak()
  int64_t cached = 0;           // bytes kept for reuse
  int64_t largest_request = 0;  // bytes of the largest single allocation since the last reset_peak()
  struct Holder {
    std::string label;
    int64_t in_use = 0, peak = 0;
  };
  std::vector<Holder> holders;  // largest first
};

// Of the memory of one device.
MemoryStatistics memory_statistics(Device device);
// What tensors may take in all: what they hold and what is free; -1 where the system does not say.
int64_t available_memory(Device device);
void reset_memory_peak(Device device);  // peaks start again from what is in use
// Gives memory that is kept for reuse back to the system, where another process may want it. On a GPU it waits.
void release_cached_memory(Device device);

// Memory for tensors on the CPU: aligned to 64 bytes (2 MiB and huge pages when large), freed blocks kept by size for the next
// request of that size, since a training step asks for the same sizes again and again and fresh pages cost a fault each.
// Thread-safe. Throws Error (device) when memory runs out: requested, in use, largest holders.
class CpuAllocator {
 public:
  static CpuAllocator& instance();

  struct Block {
    void* address = nullptr;
    int64_t bytes = 0;  // as accounted and reserved: at least what was requested
    int label = 0;
  };
  Block allocate(int64_t bytes);
  void free(const Block& block) noexcept;

  MemoryStatistics statistics() const;
  void reset_peak();     // peaks start again from what is in use
  void release_cache();  // gives cached blocks back to the system

 private:
  CpuAllocator() = default;
};

}  // namespace echo
