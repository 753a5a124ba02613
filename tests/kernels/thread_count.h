#pragma once

#include <gtest/gtest.h>
#include <omp.h>

namespace echo {

// While an object of this class lives, OpenMP loops run on `count` threads.
class ThreadCount {
 public:
  explicit ThreadCount(int count) : previous_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~ThreadCount() { omp_set_num_threads(previous_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int previous_;
};

// compute() returns what it has computed, as something that can be compared: a number or vectors of numbers.
template <class Compute>
void expect_same_bits_on_any_number_of_threads(const Compute& compute) {
  const auto on = [&](int count) {
    const ThreadCount threads(count);
    return compute();
  };
  const auto expected = on(1);
  for (const int count : {2, 3, 7}) EXPECT_EQ(on(count), expected) << count << " threads";
}

}  // namespace echo
