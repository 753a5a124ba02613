#pragma once

#include <optional>

#include "analysis/square_matrix.h"

namespace echo {

// Mean and standard error of per-sample L x L matrices, entry by entry, without keeping the samples:
//   mean = sum(x) / n,   standard error = sqrt(sum((x - mean)^2) / (n - 1)) / sqrt(n),   in f64.
// Source of the running update: Welford 1962, "Note on a method for calculating corrected sums of squares and products".
class SimilarityStatistics {
 public:
  explicit SimilarityStatistics(int64_t layers) : mean_(layers), squares_(layers) {}

  // Throws Error (internal) when the size differs.
  void add(const SquareMatrix& sample);

  int64_t count() const { return count_; }
  const SquareMatrix& mean() const { return mean_; }  // zeros while count() is 0

  // Empty for fewer than two samples, because one sample says nothing about the spread.
  std::optional<SquareMatrix> standard_error() const;

 private:
  int64_t count_ = 0;
  SquareMatrix mean_;
  SquareMatrix squares_;  // sum of squared deviations from the current mean
};

}  // namespace echo
