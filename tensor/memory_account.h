#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "tensor/allocator.h"

namespace echo {

// Who holds how much of one device's memory. Thread-safe.
class MemoryAccount {
 public:
  // Counts `bytes` under the label in force (MemoryLabel), for a request of `requested` bytes; returns the label's number.
  int add(int64_t bytes, int64_t requested);
  void remove(int64_t bytes, int label) noexcept;
  void reset_peak();
  MemoryStatistics statistics(int64_t cached) const;
  // The error for a request that could not be served. `available`: what the device says is free; negative: unknown.
  [[noreturn]] void fail_out_of_memory(Device device, int64_t requested, int64_t available) const;

 private:
  struct Label {
    std::string name;
    int64_t in_use = 0, peak = 0;
  };
  mutable std::mutex mutex_;
  int64_t in_use_ = 0, peak_ = 0, largest_request_ = 0;
  std::vector<Label> labels_;
};

}  // namespace echo
