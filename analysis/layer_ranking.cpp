#include "analysis/layer_ranking.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace echo {
namespace {

// True when the layers are a run at the beginning, a run at the end, or both. `layers` ascending.
bool at_the_ends(const std::vector<int64_t>& layers, int64_t count) {
  size_t first = 0, last = 0;
  while (first < layers.size() && layers[first] == int64_t(first)) ++first;
  while (last < layers.size() - first && layers[layers.size() - 1 - last] == count - 1 - int64_t(last)) ++last;
  return first + last == layers.size();
}

}  // namespace

LayerRanking rank_layers(const SquareMatrix& similarity) {
  const int64_t layers = similarity.size();
  ECHO_CHECK(layers >= 2, "layer ranking: needs at least 2 layers, got ", layers);
  LayerRanking result;
  // equal means differ by the rounding of their sums, so they are compared after rounding to 1e-10
  std::vector<double> rounded;
  for (int64_t i = 0; i < layers; ++i) {
    double sum = 0.0;
    for (int64_t j = 0; j < layers; ++j) sum += similarity(i, j);
    result.layer_mean.push_back(sum / double(layers));
    rounded.push_back(std::round(result.layer_mean.back() * 1e10));
  }
  result.ranking.resize(size_t(layers));
  std::iota(result.ranking.begin(), result.ranking.end(), int64_t{0});
  std::stable_sort(result.ranking.begin(), result.ranking.end(),
                   [&](int64_t a, int64_t b) { return rounded[size_t(a)] > rounded[size_t(b)]; });

  for (size_t kept = result.ranking.size() - 1; kept >= 1; --kept) {
    const double gap = result.layer_mean[size_t(result.ranking[kept - 1])] - result.layer_mean[size_t(result.ranking[kept])];
    result.largest_gap = std::max(result.largest_gap, gap);
    std::vector<int64_t> below(result.ranking.begin() + int64_t(kept), result.ranking.end());
    std::sort(below.begin(), below.end());
    if (2 * int64_t(below.size()) <= layers && gap > result.unchanged_gap + 1e-10 && at_the_ends(below, layers)) {
      result.unchanged_gap = gap;
      result.unchanged = below;
    }
  }
  return result;
}

}  // namespace echo
