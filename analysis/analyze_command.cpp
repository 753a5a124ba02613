#include "analysis/analyze_command.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace echo {
namespace {

Budget budget_from(const std::string& text, int64_t tokens) {
  constexpr std::array<std::pair<std::string_view, Budget::Unit>, 4> kUnits = {{{"followers", Budget::Unit::followers},
                                                                                {"parameters", Budget::Unit::parameters},
                                                                                {"flops", Budget::Unit::flops},
                                                                                {"cache_bytes", Budget::Unit::cache_bytes}}};
  const size_t colon = text.find(':');
  for (const auto& [name, unit] : kUnits) {
    if (colon == std::string::npos || text.substr(0, colon) != name) continue;
    Budget budget{unit, 0.0, tokens, 2};
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data() + colon + 1, end, budget.amount);
    if (error == std::errc{} && at == end) return budget;
  }
  fail(ExitCode::usage, "budget ", text, ": write followers:N, parameters:N, flops:N or cache_bytes:N");
}

}  // namespace

void add_plans(Analysis& analysis, const PlanRequests& requests) {
  const SquareMatrix& similarity = analysis.flat();
  const SquareMatrix cost = link_cost(similarity);
  const int64_t layers = analysis.layers();
  const auto add = [&](std::string name, LeaderMap map) {
    analysis.plans.push_back(evaluate_plan(std::move(name), std::move(map), similarity, analysis.parameters_per_follower));
  };
  const auto add_optimal = [&](std::string name, int64_t followers) {
    analysis.plans.push_back(
        optimal_plan(std::move(name), cost, followers, analysis.ranking, similarity, analysis.parameters_per_follower));
  };
  for (const int64_t followers : requests.followers) {
    add(fmt::format("paper_a_{}_followers", followers), LeaderMap::from_ranking(analysis.ranking.ranking, followers));
    add(fmt::format("paper_b_{}_followers", followers),
        LeaderMap::from_ranking(analysis.ranking.ranking, followers, ListMode::lend));
    add_optimal(fmt::format("optimal_{}_followers", followers), followers);
  }
  for (const std::string& text : requests.budgets) {
    const int64_t followers = followers_for(budget_from(text, requests.budget_tokens), layers, analysis.attention);
    std::string name = text;
    name[name.find(':')] = '_';
    add_optimal("optimal_" + name, followers);
  }
  if (!requests.list.empty())
    add(requests.lend ? "list_b" : "list_a",
        LeaderMap::from_list(layers, requests.list, requests.lend ? ListMode::lend : ListMode::follow));
  if (!requests.uniform.empty()) {
    if (requests.uniform.size() != 3)
      fail(ExitCode::usage, "uniform plan: give three numbers: first layers that share nothing, blocks, layers per block");
    const auto& [own_first, blocks, size] = std::tie(requests.uniform[0], requests.uniform[1], requests.uniform[2]);
    add(fmt::format("uniform_{}_{}_{}", own_first, blocks, size), LeaderMap::uniform(layers, own_first, blocks, size));
  }
  if (!requests.leader_map.empty()) add("explicit", LeaderMap(requests.leader_map));
}

}  // namespace echo
