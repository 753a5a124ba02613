#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "tensor/allocator.h"

namespace echo {

// Counts the memory of one device, in total and by label. Thread-safe.
class MemoryAccount {
 public:
  // Counts `bytes` under the current MemoryLabel, for a request of `requested` bytes. Returns the label's number, for remove().
  int add(int64_t bytes, int64_t requested);
  void remove(int64_t bytes, int label) noexcept;
  void reset_peak();
  // in_use and peak: bytes as passed to add(). largest_request: the largest `requested`. holders: the same by label, including
  // labels that hold nothing now. `cached` goes into the result unchanged, because only the allocator knows it: bytes that it
  // keeps for reuse and that no tensor holds.
  MemoryStatistics statistics(int64_t cached) const;
  // Throws the out-of-memory Error (device) for a request of `requested` bytes. `available`: the device's free bytes, negative
  // when unknown.
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
