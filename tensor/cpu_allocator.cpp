#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>

#include "base/error.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;
// Beyond this the largest cached blocks go back to the system: a cache must not be what makes a model not fit.
constexpr int64_t kCacheLimit = int64_t{2} << 30;

constexpr int64_t kLargestRequest = int64_t{1} << 46;  // 64 TiB: never asked of the system; sums of sizes stay far from overflow

thread_local const char* current_label = "other";

struct LabelCount {
  std::string name;
  int64_t in_use = 0, peak = 0;
};

struct State {
  std::mutex mutex;
  int64_t in_use = 0, peak = 0, cached = 0, largest_request = 0;
  std::map<int64_t, std::vector<void*>> cache;  // by block size
  std::vector<LabelCount> labels;
};

// Never destroyed: tensors in static storage may be freed after every other static.
State& state() {
  static State* const instance = new State;
  return *instance;
}

// Sizes are rounded so that near-equal requests share blocks: to an eighth of their power of two.
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

int label_index(State& s, const char* name) {
  for (size_t i = 0; i < s.labels.size(); ++i)
    if (s.labels[i].name == name) return int(i);
  s.labels.push_back({name, 0, 0});
  return int(s.labels.size()) - 1;
}

std::string mebibytes(int64_t bytes) { return concat((bytes >> 20) + (bytes % (1 << 20) != 0), " MiB"); }

}  // namespace

MemoryLabel::MemoryLabel(const char* name) : previous_(current_label) { current_label = name; }
MemoryLabel::~MemoryLabel() { current_label = previous_; }

CpuAllocator& CpuAllocator::instance() {
  static CpuAllocator* const allocator = new CpuAllocator;
  return *allocator;
}

CpuAllocator::Block CpuAllocator::allocate(int64_t bytes) {
  ECHO_CHECK(bytes >= 0, "allocate: negative size ", bytes);
  const int64_t size = rounded(bytes);
  State& s = state();
  std::unique_lock lock(s.mutex);
  Block block{nullptr, size, label_index(s, current_label)};
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
  if (block.address == nullptr) {
    lock.unlock();
    const MemoryStatistics now = statistics();
    std::string holders;
    for (size_t i = 0; i < std::min<size_t>(5, now.holders.size()); ++i)
      holders += concat(i > 0 ? ", " : "", now.holders[i].label, " ", mebibytes(now.holders[i].in_use));
    fail(ExitCode::device, "out of memory: requested ", mebibytes(size), ", in use ", mebibytes(now.in_use), " (", holders,
         "); a smaller per_device_train_batch_size, a shorter data.sequence_length or gradient_checkpointing: true needs less");
  }
  s.in_use += size;
  s.peak = std::max(s.peak, s.in_use);
  s.largest_request = std::max(s.largest_request, bytes);
  LabelCount& label = s.labels[size_t(block.label)];
  label.in_use += size;
  label.peak = std::max(label.peak, label.in_use);
  return block;
}

void CpuAllocator::free(const Block& block) noexcept {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.in_use -= block.bytes;
  s.labels[size_t(block.label)].in_use -= block.bytes;
  try {
    s.cache[block.bytes].push_back(block.address);
    s.cached += block.bytes;
  } catch (...) {  // no memory for the bookkeeping: give the block back instead
    std::free(block.address);
    if (const auto list = s.cache.find(block.bytes); list != s.cache.end() && list->second.empty()) s.cache.erase(list);
  }
  if (s.cached > kCacheLimit) release_largest(s, kCacheLimit);
}

MemoryStatistics CpuAllocator::statistics() const {
  State& s = state();
  std::lock_guard lock(s.mutex);
  MemoryStatistics result{s.in_use, s.peak, s.cached, s.largest_request, {}};
  for (const LabelCount& label : s.labels) result.holders.push_back({label.name, label.in_use, label.peak});
  std::stable_sort(result.holders.begin(), result.holders.end(),
                   [](const auto& a, const auto& b) { return a.in_use > b.in_use; });
  return result;
}

void CpuAllocator::reset_peak() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.peak = s.in_use;
  s.largest_request = 0;
  for (LabelCount& label : s.labels) label.peak = label.in_use;
}

void CpuAllocator::release_cache() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  release_largest(s, 0);
}

}  // namespace echo
