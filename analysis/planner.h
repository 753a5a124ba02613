#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/layer_ranking.h"
#include "analysis/square_matrix.h"
#include "nn/leader_map.h"

namespace echo {

// A proposed student: which layers follow which, what this saves, and how alike followers and leaders are in the teacher.
struct Plan {
  std::string name;  // for example paper_a_41, optimal_41; unique in its table
  LeaderMap leader_map;
  int64_t followers = 0;
  std::optional<int64_t> parameters_removed;  // empty when the model's sizes are unknown
  std::optional<double> mean_similarity;      // of each follower to its own leader; empty without followers
  std::optional<double> min_similarity;
  std::vector<std::string> warnings;
  bool operator==(const Plan&) const = default;
};

// A follower with a lower similarity to its leader gives a warning.
inline constexpr double kDoubtfulSimilarity = 0.5;

// Computes the figures of `map` from the similarity matrix. Throws Error (config) when the numbers of layers differ.
Plan evaluate_plan(std::string name, LeaderMap map, const SquareMatrix& similarity,
                   std::optional<int64_t> parameters_per_follower);

// The cost of each link, [leader][follower], computed as 1 - similarity. Other finite costs may be used instead, for example a
// measured increase of the loss per link. Lower is better. Only entries with leader < follower are read.
SquareMatrix link_cost(const SquareMatrix& similarity);

// The map with exactly `followers` followers in contiguous blocks, led by their first layers, with the smallest sum of link
// costs, by dynamic programming. Unchanged layers neither follow nor lead. Of equally good maps, the one with the shorter first
// block.
//   best(i, n) = min over block sizes s of sum(cost[i][i+1 .. i+s-1]) + best(i + s, n - s + 1)
// Time O(L^2 n). Throws Error (config) when there is no room for that many followers.
LeaderMap optimal_blocks(const SquareMatrix& cost, int64_t followers, const std::vector<int64_t>& unchanged);

// The largest number of followers that optimal_blocks can place.
int64_t room_for_followers(int64_t layers, const std::vector<int64_t>& unchanged);

// optimal_blocks() with its figures. If the unchanged layers leave no room, they are released one by one, the highest ranked
// first, until there is room. Then the plan has a warning that names them.
Plan optimal_plan(std::string name, const SquareMatrix& cost, int64_t followers, const LayerRanking& ranking,
                  const SquareMatrix& similarity, std::optional<int64_t> parameters_per_follower);

// The table shown for every analysis: paper mode A at 23, 41 and 77 % followers (of the layers, rounded), and optimal plans at
// 10, 23, 41, 60 and 77 %, each kind by ascending number of followers. Percentages that round to 0 or to more than L - 1
// followers are omitted. If several round to the same number, one is kept. So a model of 2 layers has one plan of each kind.
std::vector<Plan> propose_plans(const SquareMatrix& similarity, std::optional<int64_t> parameters_per_follower);

}  // namespace echo
