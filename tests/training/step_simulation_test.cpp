#include "training/step_simulation.h"

#include <gtest/gtest.h>

#include "tests/test_support.h"

namespace echo {
namespace {

// 8 layers of a million parameters, one bucket each.
SimulatedStep equal_layers(int64_t micro_batches = 1) {
  SimulatedStep step;
  step.layers.assign(8, {.forward = 2e-3, .backward = 4e-3, .teacher_forward = 1e-3, .parameters = 1 << 20});
  step.bucket_bytes = 1;
  step.micro_batches = micro_batches;
  step.optimizer = 5e-3;
  return step;
}

Cluster slow_cluster(int64_t world, double bandwidth) {
  Cluster cluster;
  cluster.world = world;
  cluster.inside = {bandwidth, 1e-5};
  cluster.between = {bandwidth / 8, 5e-5};
  return cluster;
}

TEST(StepSimulationTest, EqualLayersTakeTheTimeOfTheFormula) {
  int64_t waiting = 0;
  for (const int64_t world : {1, 2, 8, 64, 512})
    for (const double bandwidth : {1e8, 1e9, 1e10, 1e12})
      for (const int64_t micro_batches : {1, 3}) {
        const SimulatedStep step = equal_layers(micro_batches);
        const Cluster cluster = slow_cluster(world, bandwidth);
        const StepTime time = simulate(step, cluster);
        EXPECT_NEAR(time.total, closed_form_seconds(step, cluster), 1e-12 * time.total)  // the same sums in another order
            << world << " ranks, " << bandwidth << " bytes/s";
        waiting += time.hidden() < 0.5;
      }
  EXPECT_GT(waiting, 5);  // both cases of the formula occur
  EXPECT_LT(waiting, 35);
}

TEST(StepSimulationTest, OneRankExchangesNothing) {
  for (const Sharding sharding : {Sharding::none, Sharding::optimizer, Sharding::parameters}) {
    SimulatedStep step = equal_layers();
    step.sharding = sharding;
    const StepTime time = simulate(step, slow_cluster(1, 1e8));
    EXPECT_EQ(time.communication, 0);
    EXPECT_DOUBLE_EQ(time.total, 8 * 7e-3 + 5e-3);
    EXPECT_EQ(time.efficiency(), 1);
  }
}

TEST(StepSimulationTest, ABucketWaitsUntilEnoughIsReady) {
  SimulatedStep step = equal_layers();
  const Cluster cluster = slow_cluster(2, 1e9);
  step.bucket_bytes = 3 * (4 << 20);  // 3, 3 and 2 layers
  const double all = 2 * ring_seconds(cluster, 3 * (4 << 20)) * 2 + 2 * ring_seconds(cluster, 2 * (4 << 20));
  EXPECT_DOUBLE_EQ(simulate(step, cluster).communication, all);
  step.bucket_bytes = 1 << 30;  // all at the end, so nothing is hidden
  const StepTime time = simulate(step, cluster);
  EXPECT_DOUBLE_EQ(time.total, time.compute + time.communication);
  EXPECT_NEAR(time.hidden(), 0, 1e-12);
}

TEST(StepSimulationTest, AShardedOptimizerExchangesTheSameBytesAndUpdatesItsPart) {
  SimulatedStep step = equal_layers();
  Cluster cluster = slow_cluster(4, 1e9);
  cluster.inside.latency = 0;  // the gather is one exchange, not 8
  const StepTime whole = simulate(step, cluster);
  step.sharding = Sharding::optimizer;
  const StepTime sharded = simulate(step, cluster);
  EXPECT_NEAR(sharded.communication, whole.communication, 1e-12);
  EXPECT_NEAR(sharded.compute, whole.compute - 5e-3 * 3 / 4, 1e-12);
}

// Two layers, computed by hand. A gather takes 1, a reduce-scatter 1 (seconds).
TEST(StepSimulationTest, ParametersAreGatheredOneLayerAhead) {
  SimulatedStep step;
  step.layers.assign(2, {.forward = 3, .backward = 6, .parameters = 2});
  step.sharding = Sharding::parameters;
  Cluster cluster = slow_cluster(2, 4);  // half of 8 bytes, 4 bytes a second
  cluster.inside.latency = 0;
  const StepTime time = simulate(step, cluster);
  // forward: 1 (gather) + 3 + 3; backward: 1 (gather of the last layer again) + 6 + 6, then the last reduce-scatter: 1
  EXPECT_DOUBLE_EQ(time.total, 7 + 13 + 1);
  EXPECT_DOUBLE_EQ(time.communication, 2 + 2 + 2);
  EXPECT_DOUBLE_EQ(time.hidden(), 0.5);
}

// One layer's exchange of 4 runs beside the next layer's backward pass of 6. At half speed 2 of the 6 are done after 4.
TEST(StepSimulationTest, AnExchangeSlowsTheComputationBesideIt) {
  SimulatedStep step;
  step.layers.assign(2, {.forward = 0, .backward = 6, .parameters = 4});
  step.bucket_bytes = 1;
  Cluster cluster = slow_cluster(2, 4);
  cluster.inside.latency = 0;
  cluster.interference = 0.5;
  EXPECT_DOUBLE_EQ(simulate(step, cluster).total, 6 + 4 + 4 + 4);
}

TEST(StepSimulationTest, ARingPassesTheSlowestLink) {
  Cluster cluster = slow_cluster(8, 8e9);
  EXPECT_DOUBLE_EQ(ring_seconds(cluster, 8e9), 7.0 / 8 + 7e-5);
  cluster.world = 16;  // 8 cards per machine together are as fast as a link inside
  EXPECT_DOUBLE_EQ(ring_seconds(cluster, 8e9), 15.0 / 16 + 14 * 1e-5 + 5e-5);
  cluster.ranks_per_node = 1;
  EXPECT_DOUBLE_EQ(ring_seconds(cluster, 8e9), 15.0 / 16 * 8 + 15 * 5e-5);
}

TEST(StepSimulationTest, SettingsThatMeanNothingAreRefused) {
  Cluster cluster = slow_cluster(2, 1e9);
  cluster.interference = 1;
  expect_contains(error_message(ExitCode::internal, [&] { simulate(equal_layers(), cluster); }), "interference 1");
  expect_contains(error_message(ExitCode::internal, [&] { simulate(equal_layers(), slow_cluster(0, 1e9)); }), "0 ranks");
}

}  // namespace
}  // namespace echo
