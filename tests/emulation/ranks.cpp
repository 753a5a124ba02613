#include "tests/emulation/ranks.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/emulation/emulator.h"

namespace cuda_emulation {
namespace {

std::mutex mutex;
std::condition_variable changed;
std::vector<bool> running;  // by rank; guarded by mutex, like the next one
int turn = 0;
thread_local int this_rank = -1;

void wait_for_turn(std::unique_lock<std::mutex>& lock) {
  changed.wait(lock, [] { return turn == this_rank; });
}

void pass_turn() {
  const int world = int(running.size());
  for (int i = 1; i <= world; ++i)
    if (const int next = (this_rank + i) % world; running[size_t(next)]) {
      turn = next;
      break;
    }
  changed.notify_all();
}

}  // namespace

void let_others_run() {
  if (this_rank < 0) return;
  std::unique_lock lock(mutex);
  pass_turn();
  wait_for_turn(lock);
}

void run_ranks(int world, const std::function<void(int rank)>& body) {
  running.assign(size_t(world), true);
  turn = 0;
  std::exception_ptr first_error;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank)
    threads.emplace_back([&, rank] {
      this_rank = rank;
      {
        std::unique_lock lock(mutex);
        wait_for_turn(lock);
      }
      std::exception_ptr error;
      try {
        body(rank);
      } catch (...) {
        error = std::current_exception();
      }
      const std::lock_guard lock(mutex);
      if (error && !first_error) first_error = error;
      running[size_t(rank)] = false;
      pass_turn();
    });
  for (std::thread& thread : threads) thread.join();
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace cuda_emulation
