#include "nn/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cast.h"

namespace echo {

int32_t Sampler::choose(const Tensor& logits) {
  ECHO_CHECK(logits.rank() == 1 && logits.elements() > 0, "sampler: logits are ", logits, ", expected (V)");
  const std::vector<double> values = kernels::cast(logits.to(Device{}).contiguous(), DType::f64).to_vector<double>();
  const auto best = std::max_element(values.begin(), values.end());
  const bool damaged = std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); });
  if (damaged || !std::isfinite(*best))
    fail(ExitCode::numerical, "the model's logits are not finite: its weights may be damaged");
  if (options_.temperature <= 0) return int32_t(best - values.begin());

  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return values[size_t(a)] > values[size_t(b)]; });
  if (options_.top_k > 0 && options_.top_k < int64_t(order.size())) order.resize(size_t(options_.top_k));
  std::vector<double> weight(order.size());
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i)
    total += weight[i] = std::exp((values[size_t(order[i])] - *best) / options_.temperature);
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || (kept < options_.top_p * total && weight[count] > 0))) kept += weight[count++];
  double remaining = random_.uniform() * kept;
  for (size_t i = 0; i < count; ++i) {
    remaining -= weight[i];
    if (remaining < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace echo
