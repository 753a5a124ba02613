#pragma once

#include <cstdint>
#include <vector>

#include "analysis/square_matrix.h"

namespace echo {

// How alike each layer is to all others, and which layers are too different to take part in sharing.
struct LayerRanking {
  std::vector<double> layer_mean;  // by layer: mean of its row of the similarity matrix, the diagonal included
  std::vector<int64_t> ranking;    // layers by falling mean; equal means (to 1e-10): the lower layer first
  double largest_gap = 0.0;        // the largest step down between neighbours of the ranking
  double unchanged_gap = 0.0;      // the step above the unchanged layers; 0 when there are none. Usually the largest one
  std::vector<int64_t> unchanged;  // layers below that step, increasing
  bool operator==(const LayerRanking&) const = default;
};

// The paper's selection rule: the largest gap in the sorted layer means separates the layers to leave unchanged, provided that
// they are among the first or the last ones. The paper does not say what happens otherwise. Here a gap qualifies when the
// layers below it are a run from the first layer on, a run up to the last one, or both, and at most half of all layers
// (a model in which only two layers are alike would otherwise have all others unchanged); of those the largest is taken, the
// one that leaves fewer unchanged when two are equal. When none qualifies, no layer is left unchanged.
// Throws Error (internal) for fewer than 2 layers.
LayerRanking rank_layers(const SquareMatrix& similarity);

}  // namespace echo
