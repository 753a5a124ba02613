#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "base/error.h"

namespace echo {

// The extent of each dimension, outermost first; up to 6 dimensions, none for a scalar. Prints as (4, 128, 64).
// Throws Error for a negative extent, for more than 6 dimensions, and for a dimension that it does not have.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) : Shape(std::span<const int64_t>(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const int64_t> extents) {
    ECHO_CHECK(extents.size() <= size_t(kMaxRank), "shape: ", extents.size(), " dimensions, expected at most ", kMaxRank);
    for (int64_t extent : extents) push_back(extent);
  }

  int rank() const { return rank_; }
  // A negative dimension counts from the end: -1 is the innermost.
  int64_t operator[](int dimension) const { return extents_[size_t(index(dimension))]; }
  int64_t& operator[](int dimension) { return extents_[size_t(index(dimension))]; }
  // The product of the extents: 1 for a scalar.
  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= extents_[size_t(i)];
    return product;
  }
  void push_back(int64_t extent) {
    ECHO_CHECK(rank_ < kMaxRank, "shape: more than ", kMaxRank, " dimensions");
    ECHO_CHECK(extent >= 0, "shape: negative extent ", extent);
    extents_[size_t(rank_++)] = extent;
  }
  // This shape with the last dimension replaced by `extent`.
  Shape with_last(int64_t extent) const {
    Shape result = *this;
    result[-1] = extent;
    return result;
  }
  std::span<const int64_t> extents() const { return {extents_.data(), size_t(rank_)}; }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.extents_[size_t(i)] != b.extents_[size_t(i)]) return false;
    return true;
  }
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '(';
    for (int i = 0; i < shape.rank_; ++i) out << (i > 0 ? ", " : "") << shape.extents_[size_t(i)];
    return out << ')';
  }

  int index(int dimension) const {
    const int i = dimension < 0 ? dimension + rank_ : dimension;
    ECHO_CHECK(i >= 0 && i < rank_, "shape ", *this, " has no dimension ", dimension);
    return i;
  }

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace echo
