#pragma once

#include <omp.h>

namespace echo {

// OpenMP loops run on `count` threads while one of these lives.
class ThreadCount {
 public:
  explicit ThreadCount(int count) : previous_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~ThreadCount() { omp_set_num_threads(previous_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int previous_;
};

}  // namespace echo
