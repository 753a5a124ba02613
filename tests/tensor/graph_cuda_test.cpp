// Work that is recorded once and started by one call: what happens to its memory.
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "tensor/allocator.h"
#include "tensor/cuda_graph.h"
#include "tensor/tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

constexpr Device kCuda{DeviceKind::cuda, 0};

struct Recorded {
  explicit Recorded(const std::function<void()>& asked) {
    if constexpr (kWithCuda) work = cuda::record_work(asked);
  }
  void run() const {
    if constexpr (kWithCuda) cuda::run_recorded(*work);
  }
  cuda::RecordedWorkPointer work;
};

Tensor numbers(float first) { return Tensor::from(std::vector<float>{first, first + 1, first + 2}).to(kCuda); }

TEST(CudaGraphTest, RunsWhenItIsStartedAndAsOftenAsItIs) {
  const Tensor from = numbers(1);
  Tensor to = numbers(7);
  const Recorded recorded([&] {
    Tensor between = Tensor::empty({3}, DType::f32, kCuda);
    between.copy_from(from);
    to.copy_from(between);
  });
  EXPECT_EQ(to.to_vector<float>(), (std::vector<float>{7, 8, 9}));
  for (int i = 0; i < 2; ++i) {
    to.fill_zero();
    recorded.run();
    EXPECT_EQ(to.to_vector<float>(), (std::vector<float>{1, 2, 3}));
  }
}

TEST(CudaGraphTest, MemoryFromBeforeMayBeFreedWhileWorkIsRecorded) {
  const int64_t before = memory_statistics(kCuda).in_use;
  {
    auto old = std::make_unique<Tensor>(numbers(1));
    Tensor to = numbers(7);
    const Recorded recorded([&] {
      to.fill_zero();
      old.reset();
    });
    recorded.run();
    EXPECT_EQ(to.to_vector<float>(), std::vector<float>(3, 0.0f));
  }
  EXPECT_EQ(memory_statistics(kCuda).in_use, before);
}

TEST(CudaGraphTest, WhatCannotBeRecordedIsRefusedAndLeavesTheDeviceUsable) {
  Tensor to = numbers(1), kept;
  const auto expect_refused = [](ExitCode code, const std::string& why, const std::function<void()>& work) {
    const std::string message = error_message(code, [&] { Recorded recorded(work); });
    expect_contains(message, why);
  };
  expect_refused(ExitCode::internal, "1 tensors that outlive it", [&] { kept = Tensor::empty({3}, DType::f32, kCuda); });
  expect_refused(ExitCode::internal, "the host's memory", [&] { to.copy_from(Tensor::zeros({3}, DType::f32)); });
  expect_refused(ExitCode::device, "GPU", [&] { (void)to.to_vector<float>(); });
  expect_refused(ExitCode::device, "out of memory", [] { Tensor::empty({int64_t{1} << 44}, DType::f32, kCuda); });
  EXPECT_EQ(to.to_vector<float>(), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(numbers(4).to_vector<float>(), (std::vector<float>{4, 5, 6}));
}

}  // namespace
}  // namespace echo
