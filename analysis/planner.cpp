#include "analysis/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "base/error.h"

namespace echo {
namespace {

std::vector<bool> flags_of(int64_t layers, const std::vector<int64_t>& chosen) {
  std::vector<bool> flags(size_t(layers), false);
  for (const int64_t layer : chosen) {
    ECHO_CHECK(layer >= 0 && layer < layers, "planner: unchanged layer ", layer, " of ", layers);
    flags[size_t(layer)] = true;
  }
  return flags;
}

}  // namespace

Plan evaluate_plan(std::string name, LeaderMap map, const SquareMatrix& similarity,
                   std::optional<int64_t> parameters_per_follower) {
  if (map.layers() != similarity.size())
    fail(ExitCode::config, "plan ", name, ": a leader map of ", map.layers(), " layers does not fit a similarity matrix of ",
         similarity.size());
  Plan plan{std::move(name), std::move(map), 0, {}, {}, {}, {}};
  const LeaderMap& leaders = plan.leader_map;
  std::vector<int64_t> doubtful;
  double sum = 0.0;
  int64_t lowest = -1;
  for (int64_t i = 0; i < leaders.layers(); ++i) {
    if (!leaders.follows(i)) continue;
    const double alike = similarity(leaders.leader(i), i);
    sum += alike;
    if (alike < kDoubtfulSimilarity) doubtful.push_back(i);
    if (lowest < 0 || alike < similarity(leaders.leader(lowest), lowest)) lowest = i;
  }
  plan.followers = leaders.follower_count();
  if (parameters_per_follower) plan.parameters_removed = plan.followers * *parameters_per_follower;
  if (plan.followers > 0) {
    plan.mean_similarity = sum / double(plan.followers);
    plan.min_similarity = similarity(leaders.leader(lowest), lowest);
  }
  if (!doubtful.empty())
    plan.warnings.push_back(fmt::format(
        "{} {} {} a leader with a similarity under {} (lowest: layer {} follows layer {} at {:.2f})",
        doubtful.size() == 1 ? "layer" : "layers", layer_ranges(doubtful), doubtful.size() == 1 ? "follows" : "follow",
        kDoubtfulSimilarity, lowest, leaders.leader(lowest), *plan.min_similarity));
  return plan;
}

SquareMatrix link_cost(const SquareMatrix& similarity) {
  SquareMatrix cost(similarity.size());
  for (int64_t i = 0; i < cost.size(); ++i)
    for (int64_t j = 0; j < cost.size(); ++j) cost(i, j) = 1.0 - similarity(i, j);
  return cost;
}

int64_t room_for_followers(int64_t layers, const std::vector<int64_t>& unchanged) {
  const std::vector<bool> fixed = flags_of(layers, unchanged);
  int64_t room = 0;
  for (size_t i = 1; i < fixed.size(); ++i) room += !fixed[i] && !fixed[i - 1];
  return room;
}

LeaderMap optimal_blocks(const SquareMatrix& cost, int64_t followers, const std::vector<int64_t>& unchanged) {
  const int64_t layers = cost.size();
  const int64_t room = room_for_followers(layers, unchanged);
  if (followers < 0 || followers > room)
    fail(ExitCode::config, "plan: ", followers, " followers are requested, but there is room for 0 to ", room, " in ", layers,
         " layers of which ", unchanged.size(), " stay unchanged");
  const std::vector<bool> fixed = flags_of(layers, unchanged);

  // best[i][n]: lowest cost of the layers from i on, when a block begins at i and n followers are still to be placed.
  constexpr double kImpossible = std::numeric_limits<double>::infinity();
  constexpr double kTie = 1e-12;  // sums of the same numbers in different orders differ by less
  const auto at = [&](int64_t i, int64_t n) { return size_t(i * (followers + 1) + n); };
  std::vector<double> best(at(layers, followers) + 1, kImpossible);
  std::vector<int64_t> size_of_block(best.size(), 0);
  best[at(layers, 0)] = 0.0;
  for (int64_t i = layers - 1; i >= 0; --i) {
    for (int64_t n = 0; n <= followers; ++n) {
      double links = 0.0;
      for (int64_t size = 1; i + size <= layers && size - 1 <= n; ++size) {
        const int64_t last = i + size - 1;
        if (size > 1) {
          if (fixed[size_t(i)] || fixed[size_t(last)]) break;
          links += cost(i, last);
        }
        const double total = links + best[at(i + size, n - size + 1)];
        if (total < best[at(i, n)] - kTie || (best[at(i, n)] == kImpossible && total < kImpossible)) {
          best[at(i, n)] = total;
          size_of_block[at(i, n)] = size;
        }
      }
    }
  }
  ECHO_CHECK(best[at(0, followers)] < kImpossible, "planner: a link's cost is not finite");

  std::vector<int64_t> leaders;
  for (int64_t i = 0, n = followers; i < layers;) {
    const int64_t size = size_of_block[at(i, n)];
    leaders.insert(leaders.end(), size_t(size), i);
    i += size;
    n -= size - 1;
  }
  return LeaderMap(std::move(leaders));
}

Plan optimal_plan(std::string name, const SquareMatrix& cost, int64_t followers, const LayerRanking& ranking,
                  const SquareMatrix& similarity, std::optional<int64_t> parameters_per_follower) {
  std::vector<int64_t> unchanged = ranking.unchanged, given_up;
  for (const int64_t layer : ranking.ranking) {
    if (room_for_followers(cost.size(), unchanged) >= followers) break;
    if (std::erase(unchanged, layer) > 0) given_up.push_back(layer);
  }
  LeaderMap map = optimal_blocks(cost, followers, unchanged);
  Plan plan = evaluate_plan(std::move(name), std::move(map), similarity, parameters_per_follower);
  if (!given_up.empty()) {
    std::sort(given_up.begin(), given_up.end());
    plan.warnings.push_back(fmt::format("so many followers take in {} {}, which the gap rule would leave unchanged",
                                        given_up.size() == 1 ? "layer" : "layers", layer_ranges(given_up)));
  }
  return plan;
}

std::vector<Plan> propose_plans(const SquareMatrix& similarity, std::optional<int64_t> parameters_per_follower) {
  const int64_t layers = similarity.size();
  const LayerRanking ranking = rank_layers(similarity);
  const SquareMatrix cost = link_cost(similarity);
  std::vector<Plan> plans;
  const auto followers_at = [&](int64_t percent) { return std::llround(double(percent * layers) / 100.0); };
  // When two percentages round to the same number, one of the paper's percentages names the plan.
  std::map<int64_t, int64_t> paper_budgets, all_budgets;  // followers -> percent
  for (const int64_t percent : {23, 41, 77}) paper_budgets.emplace(followers_at(percent), percent);
  all_budgets = paper_budgets;
  for (const int64_t percent : {10, 60}) all_budgets.emplace(followers_at(percent), percent);
  const auto has_room = [&](int64_t followers) { return followers >= 1 && followers < layers; };
  for (const auto& [followers, percent] : paper_budgets)
    if (has_room(followers))
      plans.push_back(evaluate_plan(fmt::format("paper_a_{}", percent), LeaderMap::from_ranking(ranking.ranking, followers),
                                    similarity, parameters_per_follower));
  for (const auto& [followers, percent] : all_budgets)
    if (has_room(followers))
      plans.push_back(
          optimal_plan(fmt::format("optimal_{}", percent), cost, followers, ranking, similarity, parameters_per_follower));
  return plans;
}

}  // namespace echo
