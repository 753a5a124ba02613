#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace echo::kernels {

// Sums over the rows of one head, (L, L) each, with only the upper triangle filled. Every device computes these.
struct SimilaritySums {
  explicit SimilaritySums(int64_t layers) : products(size_t(layers * layers)), without_first(products), cosines(products) {}
  std::vector<double> products;       // <row of layer i, row of layer j>
  std::vector<double> without_first;  // the same without the first column
  std::vector<double> cosines;        // of the two rows
};

}  // namespace echo::kernels
