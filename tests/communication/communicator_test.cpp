#include "communication/communicator.h"

#include <gtest/gtest.h>

#include <cmath>
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

// Values whose sum depends on the order, other ones for each rank and element.
Tensor values_of(int64_t rank, int64_t elements, DType dtype) {
  Tensor values = Tensor::empty({elements}, dtype);
  dispatch_float(dtype, [&]<class T>() {
    for (int64_t i = 0; i < elements; ++i)
      values.data<T>()[i] =
          T(accumulator<T>(std::sin(double(7 * i + 1) * double(rank + 1)) * std::pow(10.0, double((i + rank) % 7))));
  });
  return values;
}

std::vector<double> widened(const Tensor& values) {
  std::vector<double> result;
  dispatch_float(values.dtype(), [&]<class T>() {
    for (const T value : values.to_vector<T>()) result.push_back(double(accumulator<T>(value)));
  });
  return result;
}

// The sum in the order of the ranks: of bf16 in f32, rounded once.
std::vector<double> summed(int64_t world, int64_t elements, DType dtype) {
  std::vector<double> sums;
  dispatch_float(dtype, [&]<class T>() {
    for (int64_t i = 0; i < elements; ++i) {
      accumulator<T> total = accumulator<T>(values_of(0, elements, dtype).data<T>()[i]);
      for (int64_t rank = 1; rank < world; ++rank) total += accumulator<T>(values_of(rank, elements, dtype).data<T>()[i]);
      sums.push_back(double(accumulator<T>(T(total))));
    }
  });
  return sums;
}

TEST(CommunicatorTest, StartedExchangesEndWithTheSumsInTheOrderOfTheRanks) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const int64_t elements : {0, 1, 5, 64})
      run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
        const std::vector<double> expected = summed(3, elements, dtype);
        const Tensor all = values_of(ranks->rank(), elements, dtype), part = all.clone();
        const auto reduced = ranks->start_all_reduce_sum(all);
        const auto scattered = ranks->start_reduce_scatter_sum(part);
        EXPECT_EQ(sum_over_ranks(*ranks, int64_t{1}), 3) << "other calls do not meet the exchanges";
        scattered->wait();
        const RankSlice own = slice_of_rank(elements, ranks->rank(), 3);
        const auto begin = expected.begin() + own.begin;
        EXPECT_EQ(widened(part.narrow(0, own.begin, own.count)), std::vector<double>(begin, begin + own.count));
        ranks->start_all_gather_slices(part)->wait();
        reduced->wait();
        reduced->wait();
        EXPECT_EQ(widened(all), expected);
        EXPECT_EQ(widened(part), expected);
      });
}

TEST(CommunicatorTest, LargeTensorsAreExchangedInRounds) {
  const int64_t elements = 3'000'001;  // of three ranks: 4 Mi elements are one round
  run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
    Tensor values = Tensor::full({2 * elements}, double(ranks->rank() + 1), DType::f32);
    ranks->start_all_reduce_sum(values)->wait();
    EXPECT_EQ(values.to_vector<float>(), std::vector<float>(size_t(2 * elements), 6.0f));
  });
}

TEST(CommunicatorTest, ARankThatEndsDuringAnExchangeEndsTheOthers) {
  const std::string message = error_message(ExitCode::io, [] {
    run_thread_ranks(3, [](const std::shared_ptr<Communicator>& ranks) {
      const auto exchange = ranks->start_all_reduce_sum(Tensor::zeros({4}, DType::f32));
      if (ranks->rank() == 1) fail(ExitCode::io, "the disk is full");
      for (;;) ranks->start_all_reduce_sum(Tensor::zeros({4}, DType::f32))->wait();
    });
  });
  EXPECT_EQ(message, "the disk is full");
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
    expect_check_fails("start_reduce_scatter_sum: f32 (3, 4)", [&] { ranks->start_reduce_scatter_sum(turned); });
    expect_check_fails("start_all_gather_slices: i32", [&] { ranks->start_all_gather_slices(whole); });
  });
}

TEST(CommunicatorTest, AnErrorOfAnotherRankSaysWhoseItIsAndAStopIsReportedByTheFirst) {
  run_thread_ranks(2, [](const std::shared_ptr<Communicator>& ranks) {
    const std::string message =
        error_message(ExitCode::io, [&] { run_as_rank(ranks->rank(), [&]() -> int { fail(ExitCode::io, "disk"); }); });
    EXPECT_EQ(message, ranks->is_first() ? "disk" : "process 1: disk");
    const auto stop = [&]() -> int { fail(ExitCode::interrupted, "stopped"); };
    if (ranks->is_first())
      error_message(ExitCode::interrupted, [&] { run_as_rank(ranks->rank(), stop); });
    else
      EXPECT_EQ(run_as_rank(ranks->rank(), stop), 75);
  });
}

}  // namespace
}  // namespace echo
