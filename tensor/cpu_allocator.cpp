#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>

#include "base/error.h"
#include "tensor/allocator.h"
#include "tensor/memory_account.h"

namespace echo {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;
// Above this limit the largest cached blocks go back to the system, so that the cache is never why a model does not fit.
constexpr int64_t kCacheLimit = int64_t{2} << 30;

constexpr int64_t kLargestRequest =
    int64_t{1}  // 64 TiB: larger requests never reach the system, so that sums of sizes cannot overflow
    << 46;

struct State {
  std::mutex mutex;
  int64_t cached = 0;
  std::map<int64_t, std::vector<void*>> cache;  // by block size
  MemoryAccount account;
};

// Never destroyed, because tensors in static storage may be freed after every other static object.
State& state() {
  static State* const instance = new State;
  return *instance;
}

// Rounds up to a multiple of an eighth of the power of two below, so that requests of similar size share blocks.
int64_t rounded(int64_t bytes) {
  if (bytes > kLargestRequest) return bytes;
  bytes = std::max(bytes, kAlignment);
  int64_t step = kAlignment;
  while (step * 16 < bytes) step *= 2;
  if (bytes >= kHugePage) step = std::max(step, int64_t{4096});
  return (bytes + step - 1) / step * step;
}

void* system_allocate(int64_t bytes) {
  if (bytes > kLargestRequest) return nullptr;
  const int64_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  void* address = nullptr;
  if (::posix_memalign(&address, size_t(alignment), size_t(bytes)) != 0) return nullptr;
  if (bytes >= kHugePage) ::madvise(address, size_t(bytes), MADV_HUGEPAGE);
  return address;
}

void release_largest(State& s, int64_t keep) {
  while (s.cached > keep && !s.cache.empty()) {
    auto last = std::prev(s.cache.end());
    std::free(last->second.back());
    last->second.pop_back();
    s.cached -= last->first;
    if (last->second.empty()) s.cache.erase(last);
  }
}

}  // namespace

CpuAllocator& CpuAllocator::instance() {
  static CpuAllocator* const allocator = new CpuAllocator;
  return *allocator;
}

CpuAllocator::Block CpuAllocator::allocate(int64_t bytes) {
  ECHO_CHECK(bytes >= 0, "allocate: negative size ", bytes);
  const int64_t size = rounded(bytes);
  State& s = state();
  const std::lock_guard lock(s.mutex);
  Block block{nullptr, size, 0};
  if (auto found = s.cache.find(size); found != s.cache.end()) {
    block.address = found->second.back();
    found->second.pop_back();
    if (found->second.empty()) s.cache.erase(found);
    s.cached -= size;
  } else {
    block.address = system_allocate(size);
    if (block.address == nullptr) {
      release_largest(s, 0);
      block.address = system_allocate(size);
    }
  }
  if (block.address == nullptr) s.account.fail_out_of_memory({}, size, -1);
  block.label = s.account.add(size, bytes);
  return block;
}

void CpuAllocator::free(const Block& block) noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.account.remove(block.bytes, block.label);
  try {
    s.cache[block.bytes].push_back(block.address);
    s.cached += block.bytes;
  } catch (...) {  // no memory for this entry: give the block back instead
    std::free(block.address);
    if (const auto list = s.cache.find(block.bytes); list != s.cache.end() && list->second.empty()) s.cache.erase(list);
  }
  if (s.cached > kCacheLimit) release_largest(s, kCacheLimit);
}

MemoryStatistics CpuAllocator::statistics() const {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  return s.account.statistics(s.cached);
}

void CpuAllocator::reset_peak() { state().account.reset_peak(); }

void CpuAllocator::release_cache() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  release_largest(s, 0);
}

}  // namespace echo
