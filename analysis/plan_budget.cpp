#include "analysis/plan_budget.h"

#include <cmath>

#include "base/error.h"

namespace echo {

int64_t parameters_per_follower(const AttentionShape& shape) {
  return (shape.heads + shape.kv_heads) * shape.head_dim * shape.hidden;
}

double flops_per_follower(const AttentionShape& shape, int64_t tokens) {
  const double width = double((shape.heads + shape.kv_heads) * shape.head_dim);
  const double query_width = double(shape.heads * shape.head_dim);
  return 2.0 * width * double(shape.hidden) + 3.0 * width + query_width * double(tokens + 1);
}

double cache_bytes_per_follower(const AttentionShape& shape, int64_t tokens, int64_t bytes_per_value) {
  return double(tokens) * double(shape.kv_heads * shape.head_dim * bytes_per_value);
}

int64_t followers_for(const Budget& budget, int64_t layers, const std::optional<AttentionShape>& shape) {
  if (!std::isfinite(budget.amount) || budget.amount < 0.0)
    fail(ExitCode::config, "plan: a budget of ", budget.amount, " is not valid; give a number from 0 up");
  if (budget.unit != Budget::Unit::followers && !shape)
    fail(ExitCode::config, "plan: a budget in parameters, FLOPs or cache bytes needs the model's sizes; give it in followers");
  double each = 1.0;
  if (budget.unit == Budget::Unit::parameters) each = double(parameters_per_follower(*shape));
  if (budget.unit == Budget::Unit::flops) each = flops_per_follower(*shape, budget.tokens);
  if (budget.unit == Budget::Unit::cache_bytes) each = cache_bytes_per_follower(*shape, budget.tokens, budget.bytes_per_value);
  ECHO_CHECK(each > 0.0, "plan: a follower saves nothing in a model of this shape");
  const double followers = std::ceil(budget.amount / each);
  if (followers > double(layers - 1))
    fail(ExitCode::config, "plan: the budget needs ", followers, " followers; a model of ", layers, " layers has room for ",
         layers - 1, ", which save ", each * double(layers - 1));
  return int64_t(followers);
}

}  // namespace echo
