#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "analysis/analysis_file.h"

namespace echo {

// Plans that a user requests in addition to the standard table.
struct PlanRequests {
  std::vector<int64_t> followers;    // for each number: plans by paper mode A, paper mode B and optimal
  std::vector<std::string> budgets;  // "followers:9", "parameters:4e7", "flops:2e8", "cache_bytes:1e6": optimal
  int64_t budget_tokens = 2048;      // context length for flops and cache_bytes
  std::vector<int64_t> list;         // the listed layers follow (or lend)
  bool lend = false;                 // paper mode B for `list`
  std::vector<int64_t> uniform;      // number of first layers that share nothing, number of blocks, block size
  std::vector<int64_t> leader_map;   // one leader per layer
};

// Adds the requested plans to the table. Throws Error: config when the model has too few layers, usage for a budget in another
// form than above or for missing numbers.
void add_plans(Analysis& analysis, const PlanRequests& requests);

}  // namespace echo
