#include "communication/thread_ranks.h"

#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "communication/host_communicator.h"

namespace echo {
namespace {

// What the ranks share.
struct Meeting {
  explicit Meeting(int64_t ranks) : world(ranks), buffers(size_t(ranks)), messages(size_t(ranks)) {}

  void wait() {
    std::unique_lock lock(mutex);
    const int64_t mine = round;
    if (++arrived == world) {
      arrived = 0;
      ++round;
      changed.notify_all();
      return;
    }
    changed.wait(lock, [&] { return round != mine || ended > 0; });
    if (round == mine) fail(ExitCode::device, "another rank has ended");
  }
  // A rank that has ended comes to no other meeting.
  void end(std::exception_ptr error) {
    const std::lock_guard lock(mutex);
    ++ended;
    if (error && !first_error) first_error = error;
    changed.notify_all();
  }

  const int64_t world;
  std::vector<void*> buffers;  // of the exchange that is going on, by rank, like the messages
  std::vector<std::string> messages;
  std::mutex mutex;
  std::condition_variable changed;
  int64_t arrived = 0, round = 0, ended = 0;  // guarded by mutex, like the next one
  std::exception_ptr first_error;
};

class ThreadRank : public HostCommunicator {
 public:
  ThreadRank(Meeting& meeting, int64_t rank) : meeting_(meeting), rank_(rank) {}
  int64_t rank() const override { return rank_; }
  int64_t world() const override { return meeting_.world; }
  std::vector<std::string> all_gather(const std::string& message) override {
    meeting_.messages[size_t(rank_)] = message;
    meeting_.wait();
    std::vector<std::string> all = meeting_.messages;
    meeting_.wait();
    return all;
  }
  void barrier() override { meeting_.wait(); }

 protected:
  void sum(float* values, int64_t count) override { sum_slices(values, count); }
  void sum(double* values, int64_t count) override { sum_slices(values, count); }
  void copy_from_first(void* bytes, int64_t count) override {
    meeting_.buffers[size_t(rank_)] = bytes;
    meeting_.wait();
    if (rank_ > 0) std::memcpy(bytes, meeting_.buffers[0], size_t(count));
    meeting_.wait();
  }

 private:
  // Each rank adds up its slice, then takes the other slices from the ranks that have their sums.
  template <class T>
  void sum_slices(T* values, int64_t count) {
    meeting_.buffers[size_t(rank_)] = values;
    meeting_.wait();
    const auto buffer = [&](int64_t rank) { return static_cast<T*>(meeting_.buffers[size_t(rank)]); };
    const RankSlice own = slice_of_rank(count, rank_, world());
    for (int64_t i = own.begin; i < own.begin + own.count; ++i) {
      T total = buffer(0)[i];
      for (int64_t rank = 1; rank < world(); ++rank) total += buffer(rank)[i];
      values[i] = total;
    }
    meeting_.wait();
    for (int64_t rank = 0; rank < world(); ++rank) {
      const RankSlice slice = slice_of_rank(count, rank, world());
      if (rank != rank_) std::memcpy(values + slice.begin, buffer(rank) + slice.begin, size_t(slice.count) * sizeof(T));
    }
    meeting_.wait();
  }

  Meeting& meeting_;
  int64_t rank_;
};

}  // namespace

void run_thread_ranks(int64_t world, const std::function<void(const std::shared_ptr<Communicator>&)>& body) {
  ECHO_CHECK(world > 0, "run_thread_ranks: ", world, " ranks");
  Meeting meeting(world);
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < world; ++rank)
    threads.emplace_back([&meeting, &body, rank] {
      std::exception_ptr error;
      try {
        body(std::make_shared<ThreadRank>(meeting, rank));
      } catch (...) {
        error = std::current_exception();
      }
      meeting.end(error);
    });
  for (std::thread& thread : threads) thread.join();
  if (meeting.first_error) std::rethrow_exception(meeting.first_error);
}

}  // namespace echo
