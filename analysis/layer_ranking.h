#pragma once

#include <cstdint>
#include <vector>

#include "analysis/square_matrix.h"

namespace echo {

// How alike each layer is to all others, and which layers are too different to share.
struct LayerRanking {
  std::vector<double> layer_mean;  // by layer: mean of its row of the similarity matrix, including the diagonal
  std::vector<int64_t> ranking;    // layers by descending mean; for equal means (within 1e-10) the lower layer first
  double largest_gap = 0.0;        // the largest step down between neighbours of the ranking
  double unchanged_gap = 0.0;      // the step above the unchanged layers, usually the largest one; 0 when there are none
  std::vector<int64_t> unchanged;  // layers below that step, ascending
  bool operator==(const LayerRanking&) const = default;
};

// The paper's selection rule: the largest gap in the sorted layer means separates the layers that stay unchanged, provided that
// they are among the first or the last layers. The paper does not say what happens otherwise. Here a gap qualifies when the
// layers below it are a run from the first layer on, a run up to the last layer, or both, and at most half of all layers.
// (Otherwise a model with only two similar layers would keep all others unchanged.) The largest qualifying gap counts; of equal
// gaps, the one with fewer unchanged layers. If none qualifies, no layer stays unchanged.
// Throws Error (internal) for fewer than 2 layers.
LayerRanking rank_layers(const SquareMatrix& similarity);

}  // namespace echo
