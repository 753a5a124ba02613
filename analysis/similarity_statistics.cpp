#include "analysis/similarity_statistics.h"

#include <cmath>

namespace echo {

void SimilarityStatistics::add(const SquareMatrix& sample) {
  ECHO_CHECK(sample.size() == mean_.size(), "similarity statistics: a sample of ", sample.size(), " layers among ones of ",
             mean_.size());
  ++count_;
  for (int64_t i = 0; i < mean_.size(); ++i) {
    for (int64_t j = 0; j < mean_.size(); ++j) {
      const double before = sample(i, j) - mean_(i, j);
      mean_(i, j) += before / double(count_);
      squares_(i, j) += before * (sample(i, j) - mean_(i, j));
    }
  }
}

std::optional<SquareMatrix> SimilarityStatistics::standard_error() const {
  if (count_ < 2) return std::nullopt;
  SquareMatrix error(mean_.size());
  for (int64_t i = 0; i < mean_.size(); ++i)
    for (int64_t j = 0; j < mean_.size(); ++j) error(i, j) = std::sqrt(squares_(i, j) / double(count_ - 1) / double(count_));
  return error;
}

}  // namespace echo
