#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

namespace echo {

// A thread that runs jobs one after the other, in the order in which they were given. It starts with the first job.
class BackgroundThread {
 public:
  BackgroundThread() = default;
  ~BackgroundThread() { stop(); }
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  // The future is ready when the job has ended, and throws what the job threw.
  std::future<void> run(std::function<void()> job);
  // Waits for the job that is running and drops those that have not begun. No job may follow.
  void stop();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> jobs_;  // guarded by mutex_, like the next one
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace echo
