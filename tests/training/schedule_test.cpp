#include "training/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace echo {
namespace {

using settings::Scheduler;

const TrainingStage kStage{1, true, /*steps=*/10, /*warmup_steps=*/4, /*learning_rate=*/2.0};

TEST(ScheduleTest, WarmUpRisesInEqualStepsFromPeakOverWarmupToThePeak) {
  for (const Scheduler scheduler : {Scheduler::cosine, Scheduler::linear, Scheduler::constant})
    for (int64_t step = 0; step < 4; ++step)
      EXPECT_DOUBLE_EQ(learning_rate_at(kStage, scheduler, step), 2.0 * double(step + 1) / 4);
}

TEST(ScheduleTest, AfterTheWarmUpCosineGoesHalfAPeriodDownToZero) {
  EXPECT_DOUBLE_EQ(learning_rate_at(kStage, Scheduler::cosine, 4), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(kStage, Scheduler::cosine, 6), 1.5);  // a third of the way: (1 + cos 60 degrees) / 2
  EXPECT_DOUBLE_EQ(learning_rate_at(kStage, Scheduler::cosine, 7), 1.0);
  EXPECT_NEAR(learning_rate_at(kStage, Scheduler::cosine, 10), 0.0, 1e-15);
}

TEST(ScheduleTest, LinearGoesStraightDownAndConstantStays) {
  EXPECT_DOUBLE_EQ(learning_rate_at(kStage, Scheduler::linear, 7), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(kStage, Scheduler::linear, 9), 2.0 / 6);
  EXPECT_DOUBLE_EQ(learning_rate_at(kStage, Scheduler::constant, 9), 2.0);
}

TEST(ScheduleTest, NoWarmUpStartsAtThePeakAndOnlyWarmUpEndsThere) {
  EXPECT_DOUBLE_EQ(learning_rate_at({1, true, 3, 0, 0.5}, Scheduler::cosine, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at({1, true, 3, 3, 0.5}, Scheduler::cosine, 2), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at({1, true, 1, 1, 0.5}, Scheduler::cosine, 0), 0.5);
}

}  // namespace
}  // namespace echo
