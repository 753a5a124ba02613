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

// Where ranks wait for each other and see each other's memory.
struct MeetingPoint {
  explicit MeetingPoint(int64_t ranks) : buffers(size_t(ranks)) {}

  std::vector<std::byte*> buffers;  // of the exchange that is going on, by rank
  int64_t arrived = 0, round = 0;   // guarded by the meeting's mutex
};

// What the ranks share.
struct Meeting {
  explicit Meeting(int64_t ranks) : world(ranks), messages(size_t(ranks)), caller(ranks), background(ranks) {}

  // Each exchange begins with meet() and ends with part(). In between a rank may read the buffers of the others. `leaving`
  // becomes true when this rank does not wait for others any more.
  void meet(MeetingPoint& point, const bool& leaving) {
    std::unique_lock lock(mutex);
    const int64_t mine = point.round;
    if (arrive(point)) return;
    changed.wait(lock, [&] { return point.round != mine || ended > 0 || leaving; });
    if (point.round != mine) return;
    --point.arrived;  // the others must not read this rank's buffer
    fail(ExitCode::unavailable, "another rank has ended");
  }
  // All ranks have met, so all will come, and only then may buffers be freed.
  void part(MeetingPoint& point) {
    std::unique_lock lock(mutex);
    const int64_t mine = point.round;
    if (!arrive(point)) changed.wait(lock, [&] { return point.round != mine; });
  }
  // A rank that has ended comes to no other meeting.
  void end(std::exception_ptr error) {
    const std::lock_guard lock(mutex);
    ++ended;
    if (error && !first_error) first_error = error;
    changed.notify_all();
  }

  // Returns true for the last one.
  bool arrive(MeetingPoint& point) {
    if (++point.arrived < world) return false;
    point.arrived = 0;
    ++point.round;
    changed.notify_all();
    return true;
  }

  const int64_t world;
  std::vector<std::string> messages;  // by rank
  MeetingPoint caller, background;
  std::mutex mutex;
  std::condition_variable changed;
  int64_t ended = 0;  // guarded by mutex, like the next one
  std::exception_ptr first_error;
};

class ThreadRank : public HostCommunicator {
 public:
  ThreadRank(Meeting& meeting, int64_t rank) : meeting_(meeting), rank_(rank) {}
  ~ThreadRank() override {
    {
      const std::lock_guard lock(meeting_.mutex);
      leaving_ = true;
    }
    meeting_.changed.notify_all();
    stop_background();
  }
  int64_t rank() const override { return rank_; }
  int64_t world() const override { return meeting_.world; }
  std::vector<std::string> all_gather(const std::string& message) override {
    meeting_.messages[size_t(rank_)] = message;
    meet(Line::caller);
    std::vector<std::string> all = meeting_.messages;
    part(Line::caller);
    return all;
  }
  void barrier() override { meet(Line::caller); }

 protected:
  void exchange_pieces(Line line, const std::byte* values, const Pieces& pieces, std::byte* parts) override {
    point(line).buffers[size_t(rank_)] = const_cast<std::byte*>(values);
    meet(line);
    const RankSlice own = pieces.of_rank[size_t(rank_)];
    for (const std::byte* buffer : point(line).buffers) {
      std::memcpy(parts, buffer + own.begin * pieces.item, size_t(own.count * pieces.item));
      parts += own.count * pieces.item;
    }
    part(line);
  }
  void gather_pieces(Line line, std::byte* values, const Pieces& pieces) override {
    point(line).buffers[size_t(rank_)] = values;
    meet(line);
    for (int64_t rank = 0; rank < world(); ++rank) {
      const auto [begin, count] = pieces.of_rank[size_t(rank)];
      const int64_t offset = begin * pieces.item;
      if (rank != rank_) std::memcpy(values + offset, point(line).buffers[size_t(rank)] + offset, size_t(count * pieces.item));
    }
    part(line);
  }
  void copy_from_first(void* bytes, int64_t count) override {
    MeetingPoint& here = point(Line::caller);
    here.buffers[size_t(rank_)] = static_cast<std::byte*>(bytes);
    meet(Line::caller);
    if (rank_ > 0) std::memcpy(bytes, here.buffers[0], size_t(count));
    part(Line::caller);
  }

 private:
  MeetingPoint& point(Line line) { return line == Line::caller ? meeting_.caller : meeting_.background; }
  void meet(Line line) { meeting_.meet(point(line), leaving_); }
  void part(Line line) { meeting_.part(point(line)); }

  Meeting& meeting_;
  int64_t rank_;
  bool leaving_ = false;  // guarded by the meeting's mutex
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
