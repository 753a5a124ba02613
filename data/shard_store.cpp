#include "data/shard_store.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "data/data_file.h"

namespace echo {
namespace {

constexpr size_t kTransfers = 4;
constexpr auto kRoomPause = std::chrono::milliseconds(500);  // before asking again whether there is room

class HeldReader : public ByteReader {
 public:
  explicit HeldReader(HeldShard held) : held_(std::move(held)), file_(held_.path()) {}
  size_t read(char* buffer, size_t capacity) override { return file_.read(buffer, capacity); }
  void skip(int64_t count) override { file_.skip(count); }

 private:
  HeldShard held_;
  FileReader file_;
};

bool may_be_skipped(const Error& error) { return error.code() == ExitCode::unavailable || error.code() == ExitCode::bad_data; }

}  // namespace

ShardStore::ShardStore(ShardSettings settings)
    : settings_(std::move(settings)),
      cache_(settings_.hub, settings_.folder, settings_.most_bytes),
      shown_(settings_.hub.show_progress) {
  settings_.hub.stop = stop_.get_token();
}

ShardStore::~ShardStore() {
  stop();
  for (std::thread& thread : threads_) thread.join();
}

void ShardStore::stop() {
  stop_.request_stop();
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void ShardStore::tell(const std::string& line) {
  const std::lock_guard lock(shown_mutex_);
  shown_.clear();
  if (settings_.notice) settings_.notice(line);
}

// With mutex_ held.
std::shared_ptr<ShardStore::Entry> ShardStore::entry_of(const Shard& shard) {
  std::shared_ptr<Entry>& entry = entries_[shard.name];
  if (!entry) {
    entry = std::make_shared<Entry>();
    entry->shard = shard;
    queue_.push_back(entry);
    while (threads_.size() < kTransfers) threads_.emplace_back([this] { work(); });
    changed_.notify_all();
  }
  return entry;
}

void ShardStore::expect(const Shard& shard) {
  const std::lock_guard lock(mutex_);
  if (!stop_.stop_requested()) entry_of(shard);
}

std::unique_ptr<ByteReader> ShardStore::open(const Shard& shard) {
  std::unique_lock lock(mutex_);
  if (stop_.stop_requested()) fail(ExitCode::unavailable, shard.name, ": no longer fetched");
  const std::shared_ptr<Entry> entry = entry_of(shard);
  entry->wanted = true;
  changed_.notify_all();
  changed_.wait(lock, stop_.get_token(), [&] { return entry->done; });
  if (!entry->done) fail(ExitCode::unavailable, shard.name, ": stopped on request before it was here");
  if (const auto found = entries_.find(shard.name); found != entries_.end() && found->second == entry) entries_.erase(found);
  if (entry->problem) std::rethrow_exception(entry->problem);
  if (HeldShard held = std::move(entry->held)) {
    lock.unlock();
    return std::make_unique<HeldReader>(std::move(held));
  }
  lock.unlock();
  return open(shard);  // another reader waited for the same one, and has it
}

// The entry whose transfer begins now: the one that a reader waits for, otherwise the first, if there is room. Null at the end.
std::shared_ptr<ShardStore::Entry> ShardStore::next_entry(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    if (!changed_.wait(lock, stop_.get_token(), [&] { return !queue_.empty(); })) return nullptr;
    auto chosen = std::find_if(queue_.begin(), queue_.end(), [](const auto& entry) { return entry->wanted; });
    if (chosen == queue_.end()) chosen = queue_.begin();
    const std::shared_ptr<Entry> entry = *chosen;
    queue_.erase(chosen);
    lock.unlock();
    bool has_room = true;
    try {
      has_room = cache_.make_room(entry->shard, [this](const std::string& line) { tell(line); });
    } catch (...) {  // fetching it will say why
    }
    lock.lock();
    if (has_room || entry->wanted) return entry;
    queue_.push_front(entry);
    changed_.wait_for(lock, stop_.get_token(), kRoomPause, [&] { return entry->wanted; });
  }
}

void ShardStore::work() {
  HubClient client(settings_.hub, [this](const std::string& line) { tell(line); });
  std::unique_lock lock(mutex_);
  while (const std::shared_ptr<Entry> entry = next_entry(lock)) {
    lock.unlock();
    fetch(client, *entry);
    lock.lock();
    entry->done = true;
    changed_.notify_all();
  }
}

void ShardStore::fetch(HubClient& client, Entry& entry) {
  bool drawn = false;
  const auto progress = [&](int64_t have, int64_t size) {
    {
      const std::lock_guard lock(mutex_);
      if (!entry.wanted) return;
    }
    const std::lock_guard lock(shown_mutex_);
    shown_.update(have, size);
    drawn = true;
  };
  try {
    entry.held = cache_.fetch(client, entry.shard, progress);
  } catch (const Error& error) {
    const bool stopped = stop_.stop_requested();
    if (!stopped) tell(concat("warning: ", error.what()));
    entry.problem = may_be_skipped(error) && !stopped ? std::make_exception_ptr(FileUnavailable(error.code(), error.what()))
                                                      : std::current_exception();
  } catch (...) {
    entry.problem = std::current_exception();
  }
  if (drawn) {
    const std::lock_guard lock(shown_mutex_);
    shown_.clear();
  }
}

}  // namespace echo
