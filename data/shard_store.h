#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "base/transfer_progress.h"
#include "data/byte_reader.h"
#include "data/shard_cache.h"

namespace echo {

struct ShardSettings {
  HubSettings hub;
  std::filesystem::path folder;            // of the shards. Several processes may share it
  int64_t most_bytes = int64_t{20} << 30;  // that shards take in it, partly fetched ones counted whole
  Notice notice;                           // receives a line about a long wait or a shard that cannot be had; may be empty
};

// Brings shards to this machine while earlier ones are read. Threads of its own fetch up to four at a time, in the order in
// which they are expected, as long as there is room. A shard that a reader waits for comes first. It is fetched even when
// there is no room, so that a reader never waits for itself.
class ShardStore {
 public:
  explicit ShardStore(ShardSettings settings);
  ~ShardStore();  // ends transfers, and keeps what they have
  ShardStore(const ShardStore&) = delete;
  ShardStore& operator=(const ShardStore&) = delete;

  void expect(const Shard& shard);  // open() will be called soon. Does not wait

  // The bytes of a shard. Waits until it is here. It stays here while the reader lives. Throws FileUnavailable when it cannot
  // be fetched, Error: input_missing, no_permission, io; unavailable after stop().
  std::unique_ptr<ByteReader> open(const Shard& shard);

  void stop();

 private:
  struct Entry {
    Shard shard;
    bool wanted = false;  // a reader waits for it
    bool done = false;
    HeldShard held;
    std::exception_ptr problem;
  };
  std::shared_ptr<Entry> entry_of(const Shard& shard);
  std::shared_ptr<Entry> next_entry(std::unique_lock<std::mutex>& lock);
  void work();
  void fetch(HubClient& client, Entry& entry);
  void tell(const std::string& line);

  ShardSettings settings_;
  ShardCache cache_;
  std::stop_source stop_;
  std::mutex mutex_;  // guards the members below
  std::condition_variable_any changed_;
  std::map<std::string, std::shared_ptr<Entry>> entries_;  // by name: expected or here, and not opened yet
  std::deque<std::shared_ptr<Entry>> queue_;               // those whose transfer has not begun
  std::mutex shown_mutex_;
  TransferProgress shown_;
  std::vector<std::thread> threads_;  // started by the first shard
};

}  // namespace echo
