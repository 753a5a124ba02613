#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/layer_ranking.h"
#include "analysis/square_matrix.h"
#include "nn/leader_map.h"

namespace echo {

// A proposed student: who follows whom, what it saves, and how alike followers and leaders are in the teacher.
struct Plan {
  std::string name;  // e.g. paper_a_41, optimal_41: unique in its table
  LeaderMap leader_map;
  int64_t followers = 0;
  std::optional<int64_t> parameters_removed;  // empty when the model's sizes are not known
  std::optional<double> mean_similarity;      // of each follower to its own leader; empty without followers
  std::optional<double> min_similarity;
  std::vector<std::string> warnings;
  bool operator==(const Plan&) const = default;
};

// A follower less similar to its leader than this is warned about.
inline constexpr double kDoubtfulSimilarity = 0.5;

// Describes `map` by the similarity matrix. Throws Error (config) when the numbers of layers differ.
Plan evaluate_plan(std::string name, LeaderMap map, const SquareMatrix& similarity,
                   std::optional<int64_t> parameters_per_follower);

// The cost of a link, [leader][follower]: any finite numbers, lower is better, only leader < follower is read. From
// similarity it is 1 - similarity; a measured rise of the loss per link can take its place.
SquareMatrix link_cost(const SquareMatrix& similarity);

// The map with exactly `followers` followers in contiguous blocks led by their first layer whose links cost least in
// sum, by dynamic programming. Unchanged layers neither follow nor lead. Of equally good maps the one with the
// shorter first block.
//   best(i, n) = min over block sizes s of sum(cost[i][i+1 .. i+s-1]) + best(i + s, n - s + 1)
// O(L^2 n) time. Throws Error (config) when there is no room for that many.
LeaderMap optimal_blocks(const SquareMatrix& cost, int64_t followers, const std::vector<int64_t>& unchanged);

// The largest number of followers that optimal_blocks can place.
int64_t room_for_followers(int64_t layers, const std::vector<int64_t>& unchanged);

// optimal_blocks, evaluated. When the unchanged layers leave no room, they are given up one by one, the highest ranked
// first, until there is, and the plan carries a warning that names them.
Plan optimal_plan(std::string name, const SquareMatrix& cost, int64_t followers, const LayerRanking& ranking,
                  const SquareMatrix& similarity, std::optional<int64_t> parameters_per_follower);

// The table shown for every analysis: paper mode A at 23, 41 and 77 % followers (of the layers, rounded), optimal plans at 10,
// 23, 41, 60 and 77 %, each kind by rising number of followers. Percentages that round to no follower or to more than L - 1
// are left out, and of those that round to the same number one is kept; so a model of 2 layers has one plan of each kind.
std::vector<Plan> propose_plans(const SquareMatrix& similarity, std::optional<int64_t> parameters_per_follower);

}  // namespace echo
