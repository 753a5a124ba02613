#include "data/shard_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "data/data_file.h"
#include "tests/hub/scripted_server.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

// Files of 1000 bytes on a server of this process. Its answers wait while `held` is true.
class ShardStoreTest : public testing::Test {
 protected:
  ShardSettings settings(int64_t most_bytes) const {
    HubSettings hub;
    hub.endpoint = server_.url();
    hub.cache = folder_ / "hub";
    return {hub, folder_ / "shards", most_bytes, {}};
  }
  static std::string content(const std::string& path) { return path + std::string(1000 - path.size(), '.'); }
  Shard shard(int number) const {
    const UrlFile file{concat(server_.url(), "/", number), 1000, "\"1\""};
    return {file.url, file.repository(), "", "", file.etag(), file.size, file};
  }
  static std::string text_of(ByteReader& reader) {
    std::string text(2000, '\0');
    size_t filled = 0;
    while (const size_t count = reader.read(text.data() + filled, text.size() - filled)) filled += count;
    return text.substr(0, filled);
  }
  bool is_stored(int number) const {
    return std::filesystem::exists(HubCache(folder_ / "shards").blob(shard(number).repository, shard(number).etag));
  }

  TemporaryFolder folder_;
  std::atomic<bool> held_ = false;
  ScriptedServer server_{[this](const std::string& path) {
    while (held_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return http_answer(200, "ETag: \"1\"\r\n", content(path));
  }};
};

TEST_F(ShardStoreTest, ManyReadersGetEveryShardOnceEach) {
  ShardStore store(settings(1 << 20));
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 4; ++reader)
    readers.emplace_back([&, reader] {
      for (int number = 0; number < 12; ++number) store.expect(shard(number));
      for (int i = 0; i < 12; ++i) {
        const int number = (i * 5 + reader) % 12;
        EXPECT_EQ(text_of(*store.open(shard(number))), content(concat("/", number)));
      }
    });
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(server_.requests().size(), 12u) << "each one is fetched once";
}

TEST_F(ShardStoreTest, AShardThatIsHeldStaysAndTheOneUsedLongestAgoGoes) {
  ShardStore store(settings(3000));
  const auto held = store.open(shard(0));
  for (const int number : {1, 2, 1, 3}) {
    store.open(shard(number));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the clock of the files is not exact
  }
  EXPECT_TRUE(is_stored(0)) << "somebody reads it";
  EXPECT_TRUE(is_stored(1));
  EXPECT_FALSE(is_stored(2));
  EXPECT_TRUE(is_stored(3));
  EXPECT_EQ(text_of(*held), content("/0"));
}

TEST_F(ShardStoreTest, WhatIsExpectedWaitsForRoomButAReaderDoesNot) {
  ShardStore store(settings(2000));
  const auto first = store.open(shard(0)), second = store.open(shard(1));
  store.expect(shard(2));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(is_stored(2));
  EXPECT_EQ(text_of(*store.open(shard(2))), content("/2"));
}

TEST_F(ShardStoreTest, StoppingEndsAWaitAtOnce) {
  held_ = true;
  ShardStore store(settings(1 << 20));
  const auto start = Clock::now();
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    store.stop();
  });
  expect_contains(error_message(ExitCode::unavailable, [&] { store.open(shard(0)); }), "stopped on request");
  stopper.join();
  expect_contains(error_message(ExitCode::unavailable, [&] { store.open(shard(1)); }), "no longer fetched");
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5)) << "a timeout has 10 seconds";
  held_ = false;
}

TEST_F(ShardStoreTest, AFileThatHasChangedIsUnavailable) {
  ShardStore store(settings(1 << 20));
  Shard changed = shard(0);
  changed.url->version = "\"2\"";
  try {
    store.open(changed);
    ADD_FAILURE() << "it was read";
  } catch (const FileUnavailable& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    expect_contains(error.what(), "has changed since the run began");
  }
}

}  // namespace
}  // namespace echo
