#include "tensor/memory_account.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"

namespace echo {
namespace {

thread_local const char* current_label = "other";
std::atomic<const char*> memory_remedy = "a smaller batch, shorter sequences or a smaller model need less";

std::string mebibytes(int64_t bytes) { return concat((bytes >> 20) + (bytes % (1 << 20) != 0), " MiB"); }

}  // namespace

MemoryLabel::MemoryLabel(const char* name) : previous_(current_label) { current_label = name; }
MemoryLabel::~MemoryLabel() { current_label = previous_; }

void set_memory_remedy(const char* remedy) { memory_remedy = remedy; }

int MemoryAccount::add(int64_t bytes, int64_t requested) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(labels_.begin(), labels_.end(), [](const Label& l) { return l.name == current_label; });
  const size_t index = size_t(found - labels_.begin());
  if (found == labels_.end()) labels_.push_back({current_label, 0, 0});
  in_use_ += bytes;
  peak_ = std::max(peak_, in_use_);
  largest_request_ = std::max(largest_request_, requested);
  labels_[index].in_use += bytes;
  labels_[index].peak = std::max(labels_[index].peak, labels_[index].in_use);
  return int(index);
}

void MemoryAccount::remove(int64_t bytes, int label) noexcept {
  const std::lock_guard lock(mutex_);
  in_use_ -= bytes;
  labels_[size_t(label)].in_use -= bytes;
}

void MemoryAccount::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = in_use_;
  largest_request_ = 0;
  for (Label& label : labels_) label.peak = label.in_use;
}

MemoryStatistics MemoryAccount::statistics(int64_t cached) const {
  const std::lock_guard lock(mutex_);
  MemoryStatistics result{in_use_, peak_, cached, largest_request_, {}};
  for (const Label& label : labels_) result.holders.push_back({label.name, label.in_use, label.peak});
  std::stable_sort(result.holders.begin(), result.holders.end(),
                   [](const auto& a, const auto& b) { return a.in_use > b.in_use; });
  return result;
}

void MemoryAccount::fail_out_of_memory(Device device, int64_t requested, int64_t available) const {
  const MemoryStatistics now = statistics(0);
  std::string holders;
  for (size_t i = 0; i < std::min<size_t>(5, now.holders.size()); ++i)
    holders += concat(i > 0 ? ", " : "", now.holders[i].label, " ", mebibytes(now.holders[i].in_use));
  fail(ExitCode::device, "out of memory", device.is_cpu() ? "" : concat(" on ", device), ": requested ", mebibytes(requested),
       ", in use ", mebibytes(now.in_use), " (", holders, ")", available >= 0 ? concat(", free ", mebibytes(available)) : "",
       "; ", memory_remedy.load());
}

}  // namespace echo
