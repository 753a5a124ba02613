#include "nn/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cast.h"
#include "kernels/vector_exp.h"

namespace echo {
namespace {

struct Candidate {
  double weight;  // ascending with the probability: first the logit, later its exponential
  int32_t id;
};
bool is_likelier(const Candidate& a, const Candidate& b) {
  return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}

double total_of(const std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.weight;
  return sum;
}

// Keeps the most likely candidates whose weights sum to `share` of the total, at least one, and sorts them.
void keep_share(std::vector<Candidate>& candidates, double share) {
  const double total = total_of(candidates);
  // Most candidates are too small to matter. All below `least` together have at most half of the weight that may be dropped.
  // (The factor 0.5 allows for rounding.)
  const double least = 0.5 * (1 - share) * total / double(candidates.size());
  std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.weight < least; });
  std::sort(candidates.begin(), candidates.end(), is_likelier);
  size_t count = 0;
  for (double kept = 0; count < candidates.size() && (count == 0 || kept < share * total); ++count)
    kept += candidates[count].weight;
  candidates.resize(count);
}

// The candidate at which the running sum of weights exceeds `position`. If rounding keeps the total below it, the last
// candidate with a positive weight.
int32_t draw(const std::vector<Candidate>& candidates, double position) {
  int32_t chosen = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    if (candidate.weight > 0) chosen = candidate.id;
    position -= candidate.weight;
    if (position < 0) break;
  }
  return chosen;
}

}  // namespace

int32_t Sampler::choose(const Tensor& logits) {
  ECHO_CHECK(logits.rank() == 1 && logits.elements() > 0, "sampler: logits are ", logits, ", expected (V)");
  const std::vector<double> values = kernels::cast(logits.to(Device{}).contiguous(), DType::f64).to_vector<double>();
  const auto best = std::max_element(values.begin(), values.end());
  const bool damaged = std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); });
  if (damaged || !std::isfinite(*best))
    fail(ExitCode::numerical, "the model's logits are not finite: its weights may be damaged");
  if (options_.temperature <= 0) return int32_t(best - values.begin());

  std::vector<Candidate> candidates(values.size());
  for (size_t i = 0; i < values.size(); ++i) candidates[i] = {values[i], int32_t(i)};
  if (options_.top_k > 0 && options_.top_k < int64_t(candidates.size())) {
    const auto end = candidates.begin() + options_.top_k;
    std::partial_sort(candidates.begin(), end, candidates.end(), is_likelier);
    candidates.erase(end, candidates.end());
  }
  for (Candidate& candidate : candidates)
    candidate.weight = kernels::exponential(float((candidate.weight - *best) / options_.temperature));
  if (options_.top_p < 1) keep_share(candidates, options_.top_p);
  return draw(candidates, random_.uniform() * total_of(candidates));
}

}  // namespace echo
