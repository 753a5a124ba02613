#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "analysis/analysis_file.h"

namespace echo {

// Plans that a user asks for beside the standard table.
struct PlanRequests {
  std::vector<int64_t> followers;    // for each number: paper mode A, mode B and optimal
  std::vector<std::string> budgets;  // "followers:9", "parameters:4e7", "flops:2e8", "cache_bytes:1e6": optimal
  int64_t budget_tokens = 2048;      // context length that flops and cache_bytes refer to
  std::vector<int64_t> list;         // listed layers follow (or lend)
  bool lend = false;                 // paper mode B for `list`
  std::vector<int64_t> uniform;      // own first layers, blocks, block size
  std::vector<int64_t> leader_map;   // one leader per layer
};

// Adds the requested plans to the table. Throws Error (config) for what the model has no room for, (usage) for a
// budget that is not written as above or numbers that are missing.
void add_plans(Analysis& analysis, const PlanRequests& requests);

}  // namespace echo
