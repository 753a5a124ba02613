#include "nn/leader_map.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/test_support.h"

namespace echo {
namespace {

using Layers = std::vector<int64_t>;

void expect_refused(const Layers& leaders, const std::string& expected) {
  EXPECT_EQ(error_message(ExitCode::config, [&] { LeaderMap map(leaders); }), expected);
}

TEST(LeaderMapTest, ClosedSpansHoldTheirBlocksWhole) {
  using Spans = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(LeaderMap::own(3).closed_spans(), (Spans{{0, 0}, {1, 1}, {2, 2}}));
  EXPECT_EQ(LeaderMap({0, 1, 1, 3}).closed_spans(), (Spans{{0, 0}, {1, 2}, {3, 3}}));
  EXPECT_EQ(LeaderMap({0, 1, 0, 1, 4}).closed_spans(), (Spans{{0, 3}, {4, 4}}));  // two blocks that cross
}

TEST(LeaderMapTest, AnswersWhoFollowsWhom) {
  const LeaderMap map({0, 1, 1, 0, 4, 1});  // the followers of 1 are not contiguous
  EXPECT_EQ(map.layers(), 6);
  EXPECT_EQ(map.leader(5), 1);
  EXPECT_TRUE(map.follows(3));
  EXPECT_FALSE(map.follows(4));
  EXPECT_EQ(map.followers_of(1), (Layers{2, 5}));
  EXPECT_EQ(map.followers_of(0), (Layers{3}));
  EXPECT_EQ(map.followers_of(4), Layers{});
  EXPECT_EQ(map.follower_count(), 3);
  ASSERT_EQ(map.blocks().size(), 3u);
  EXPECT_EQ(map.blocks()[1].leader, 1);
  EXPECT_EQ(map.blocks()[1].last(), 5);
  EXPECT_EQ(map.blocks()[2].last(), 4);
  EXPECT_EQ(map.block_ends(), (Layers{3, 5}));  // sorted, although leader 0's block ends before leader 1's
  EXPECT_EQ(map.to_string(), "[0, 1, 1, 0, 4, 1]");
  EXPECT_EQ(map.describe(), "0 leads 3; 1 leads 2, 5");
  EXPECT_EQ(LeaderMap::own(3).describe(), "no sharing");
  EXPECT_FALSE(LeaderMap::own(3).shares());
}

TEST(LeaderMapTest, BlockEndsEqualTheGoldenOnes) {
  EXPECT_EQ(LeaderMap({0, 1, 1, 1, 4}).block_ends(), (Layers{3}));
  EXPECT_EQ(LeaderMap({0, 1, 2, 2, 2, 5, 5, 5, 8, 8, 10, 11}).block_ends(), (Layers{4, 7, 9}));
}

TEST(LeaderMapTest, RefusesWrongMapsNamingLayerValueAndRemedy) {
  expect_refused({0, 2, 2},
                 "leader map: layer 1 points forward to layer 2; a matrix can only come from an earlier layer: use a "
                 "value from 0 to 1");
  expect_refused({0, 0, 1}, "leader map: layer 2 points to layer 1, which itself follows layer 0; point layer 2 to 0");
  expect_refused({0, 1, 3},
                 "leader map: layer 2 points to 3, which does not exist; the layers are 0 to 2, and 2 itself means its own "
                 "attention");
  expect_refused({-1},
                 "leader map: layer 0 points to -1, which does not exist; the layers are 0 to 0, and 0 itself means its own "
                 "attention");
  expect_refused({}, "leader map: is empty; give one leader per layer");
}

TEST(LeaderMapTest, ListFollowsTheNearestEarlierUnlistedLayer) {
  EXPECT_EQ(LeaderMap::from_list(12, {4, 6, 8, 10}).leaders(), (Layers{0, 1, 2, 3, 3, 5, 5, 7, 7, 9, 9, 11}));
  EXPECT_EQ(LeaderMap::from_list(6, {4, 2, 3}).leaders(), (Layers{0, 1, 1, 1, 1, 5}));
  // Layer 0 has no earlier layer, so it computes its own matrix, and leads.
  EXPECT_EQ(LeaderMap::from_list(4, {0, 1}).leaders(), (Layers{0, 0, 2, 3}));
}

TEST(LeaderMapTest, ListLendsToTheNextLayerAndPassesOnWhatItReceived) {
  EXPECT_EQ(LeaderMap::from_list(6, {1}, ListMode::lend).leaders(), (Layers{0, 1, 1, 3, 4, 5}));
  EXPECT_EQ(LeaderMap::from_list(6, {1, 2, 4}, ListMode::lend).leaders(), (Layers{0, 1, 1, 1, 4, 4}));
  EXPECT_EQ(LeaderMap::from_list(4, {0, 3}, ListMode::lend).leaders(), (Layers{0, 0, 2, 3}));  // the last has no next one
}

TEST(LeaderMapTest, ListsWithUnknownOrRepeatedLayersAreRefused) {
  EXPECT_EQ(error_message(ExitCode::config, [] { LeaderMap::from_list(4, {4}); }),
            "leader map: listed layer 4 does not exist; the layers are 0 to 3");
  EXPECT_EQ(error_message(ExitCode::config,
                          [] {
                            LeaderMap::from_list(4, {2, 2});
                          }),
            "leader map: layer 2 is listed twice; name it once");
}

TEST(LeaderMapTest, RankingGivesTheNumberOfFollowersAskedFor) {
  const Layers first_is_most_alike = {0, 1, 3, 2};
  EXPECT_EQ(LeaderMap::from_ranking(first_is_most_alike, 2).leaders(), (Layers{0, 0, 2, 2}));  // 0 passed over: 1, 3
  const Layers last_is_most_alike = {3, 1, 0, 2};
  EXPECT_EQ(LeaderMap::from_ranking(last_is_most_alike, 2, ListMode::lend).leaders(), (Layers{0, 0, 0, 3}));
  for (int64_t followers = 0; followers < 4; ++followers)
    for (const ListMode mode : {ListMode::follow, ListMode::lend})
      for (const Layers& ranking : {first_is_most_alike, last_is_most_alike})
        EXPECT_EQ(LeaderMap::from_ranking(ranking, followers, mode).follower_count(), followers);
  EXPECT_EQ(error_message(ExitCode::config, [&] { LeaderMap::from_ranking(last_is_most_alike, 4); }),
            "leader map: 4 followers requested; a model of 4 layers has room for 0 to 3");
}

TEST(LeaderMapTest, UniformBlocks) {
  EXPECT_EQ(LeaderMap::uniform(12, 3, 4, 2), LeaderMap::from_list(12, {4, 6, 8, 10}));
  EXPECT_EQ(LeaderMap::uniform(8, 1, 2, 3).leaders(), (Layers{0, 1, 1, 1, 4, 4, 4, 7}));
  EXPECT_EQ(LeaderMap::uniform(3, 0, 0, 1), LeaderMap::own(3));
  EXPECT_EQ(error_message(ExitCode::config, [] { LeaderMap::uniform(8, 3, 2, 3); }),
            "leader map: 3 own layers and 2 blocks of 3 do not fit into 8 layers; use fewer or smaller blocks");
  error_message(ExitCode::config, [] { LeaderMap::uniform(8, 1, INT64_MAX, INT64_MAX); });
}

TEST(LeaderMapTest, JsonRoundTripAndRefusals) {
  const LeaderMap map({0, 1, 1, 0});
  EXPECT_EQ(LeaderMap::from_json(map.to_json()), map);
  EXPECT_EQ(map.to_json().dump(), "[0,1,1,0]");
  EXPECT_EQ(LeaderMap::from_json(nlohmann::json::parse(map.to_string())), map);
  const auto refused = [](const char* text) {
    return error_message(ExitCode::config,
                         [&] { LeaderMap::from_json(nlohmann::json::parse(text), "m/config.json: leader_map"); });
  };
  EXPECT_EQ(refused("[0, 1.5]"), "m/config.json: leader_map: the entry of layer 1 is not the number of a layer");
  EXPECT_EQ(refused("[0, true]"), "m/config.json: leader_map: the entry of layer 1 is not the number of a layer");
  EXPECT_EQ(refused("[18446744073709551615]"), "m/config.json: leader_map: the entry of layer 0 is not the number of a layer");
  EXPECT_EQ(refused("{}"), "m/config.json: leader_map: is not a list; give one leader per layer, e.g. [0, 1, 1, 3]");
}

TEST(LeaderMapTest, ParametersOfTinyLlama) {  // published: 4,718,592 per follower
  EXPECT_EQ(LeaderMap::from_list(22, {3}).parameters_removed(2048, 32, 4, 64), 4'718'592);
  EXPECT_EQ(LeaderMap::uniform(22, 2, 1, 18).parameters_removed(2048, 32, 4, 64), 80'216'064);
}

}  // namespace
}  // namespace echo
