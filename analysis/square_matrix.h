#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/error.h"

namespace echo {

// An L x L table of doubles, row-major: one row and one column per layer.
class SquareMatrix {
 public:
  SquareMatrix() = default;
  explicit SquareMatrix(int64_t size, double fill = 0.0) : size_(size), values_(size_t(size * size), fill) {}
  SquareMatrix(int64_t size, std::vector<double> values) : size_(size), values_(std::move(values)) {
    ECHO_CHECK(int64_t(values_.size()) == size * size, "square matrix: ", values_.size(), " values for size ", size);
  }

  int64_t size() const { return size_; }
  double& operator()(int64_t row, int64_t column) { return values_[size_t(row * size_ + column)]; }
  double operator()(int64_t row, int64_t column) const { return values_[size_t(row * size_ + column)]; }
  const std::vector<double>& values() const { return values_; }
  bool operator==(const SquareMatrix&) const = default;

 private:
  int64_t size_ = 0;
  std::vector<double> values_;
};

}  // namespace echo
