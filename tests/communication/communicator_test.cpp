#include "communication/communicator.h"

#include <gtest/gtest.h>

#include <thread>

#include "communication/host_communicator.h"
#include "communication/launch.h"
#include "communication/thread_ranks.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(CommunicatorTest, SlicesOfRanksCoverEachElementOnce) {
  for (const int64_t elements : {0, 1, 3, 7, 8, 100})
    for (const int64_t world : {1, 2, 3, 5, 8}) {
      int64_t next = 0;
      for (int64_t rank = 0; rank < world; ++rank) {
        const RankSlice slice = slice_of_rank(elements, rank, world);
        if (slice.count > 0) {
          EXPECT_EQ(slice.begin, next);
        }
        EXPECT_GE(slice.count, 0);
        next += slice.count;
      }
      EXPECT_EQ(next, elements) << world << " ranks";
    }
}

// In f32 1e8 + 1 is 1e8. So only the order ((1e8 + 1) - 1e8) + 1 gives 1. The ranks come late in turn.
TEST(CommunicatorTest, EachRankGetsTheSumInTheOrderOfTheRanks) {
  const float parts[] = {1e8f, 1.0f, -1e8f, 1.0f};
  for (int64_t late = 0; late < 4; ++late)
    for (const int64_t elements : {1, 7})
      run_thread_ranks(4, [&](const std::shared_ptr<Communicator>& ranks) {
        if (ranks->rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        Tensor values = Tensor::full({elements}, parts[ranks->rank()], DType::f32);
        ranks->all_reduce_sum(values);
        EXPECT_EQ(values.to_vector<float>(), std::vector<float>(size_t(elements), 1.0f)) << "rank " << ranks->rank();
      });
}

TEST(CommunicatorTest, RanksExchangeMessagesNumbersAndTensors) {
  run_thread_ranks(3, [](const std::shared_ptr<Communicator>& ranks) {
    EXPECT_EQ(ranks->world(), 3);
    const std::string mine(size_t(ranks->rank()), 'x');
    EXPECT_EQ(ranks->all_gather(mine), (std::vector<std::string>{"", "x", "xx"}));
    EXPECT_EQ(text_of_first(*ranks, concat("from ", ranks->rank())), "from 0");
    EXPECT_EQ(sum_over_ranks(*ranks, int64_t{1} << (40 + ranks->rank())), int64_t{7} << 40);
    Tensor values = Tensor::full({5}, double(ranks->rank() + 1), DType::f64);
    ranks->broadcast(values);
    EXPECT_EQ(values.to_vector<double>(), std::vector<double>(5, 1.0));
    ranks->barrier();
    EXPECT_EQ(share_of_machine(*ranks).ranks, 3);
  });
}

TEST(CommunicatorTest, TheErrorOfOneRankEndsTheOthersAndIsTheOneReported) {
  const std::string message = error_message(ExitCode::io, [] {
    run_thread_ranks(3, [](const std::shared_ptr<Communicator>& ranks) {
      if (ranks->rank() == 1) fail(ExitCode::io, "the disk is full");
      for (;;) ranks->barrier();
    });
  });
  EXPECT_EQ(message, "the disk is full");
}

TEST(CommunicatorTest, OnlyContiguousFloatingTensorsAreSummed) {
  run_thread_ranks(2, [](const std::shared_ptr<Communicator>& ranks) {
    Tensor whole = Tensor::zeros({4}, DType::i32);
    expect_check_fails("all_reduce_sum: i32", [&] { ranks->all_reduce_sum(whole); });
    Tensor turned = Tensor::zeros({4, 3}, DType::f32).transpose(0, 1);
    expect_check_fails("expected contiguous", [&] { ranks->all_reduce_sum(turned); });
  });
}

TEST(CommunicatorTest, AnErrorOfAnotherRankSaysWhoseItIsAndAStopIsReportedByTheFirst) {
  run_thread_ranks(2, [](const std::shared_ptr<Communicator>& ranks) {
    const std::string message =
        error_message(ExitCode::io, [&] { run_as_rank(*ranks, [&]() -> int { fail(ExitCode::io, "disk"); }); });
    EXPECT_EQ(message, ranks->is_first() ? "disk" : "process 1: disk");
    const auto stop = [&]() -> int { fail(ExitCode::interrupted, "stopped"); };
    if (ranks->is_first())
      error_message(ExitCode::interrupted, [&] { run_as_rank(*ranks, stop); });
    else
      EXPECT_EQ(run_as_rank(*ranks, stop), 75);
  });
}

}  // namespace
}  // namespace echo
