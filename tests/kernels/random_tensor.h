#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/cast.h"
#include "tensor/tensor.h"

namespace echo {

// Normal values times `size`, the same for every dtype except for rounding.
inline Tensor random_tensor(const Shape& shape, DType dtype, uint64_t seed, double size = 1) {
  RandomSequence random(seed);
  std::vector<double> values(size_t(shape.elements()));
  for (double& value : values) value = size * random.normal();
  return kernels::cast(Tensor::from(values, shape), dtype);
}

// The elements of a floating tensor on any device, as f64.
inline std::vector<double> values_of(const Tensor& tensor) {
  return kernels::cast(tensor.to(Device{}).contiguous(), DType::f64).to_vector<double>();
}

// The largest absolute difference of two floating tensors. NaN when one of them contains NaN.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = values_of(a), y = values_of(b);
  ECHO_CHECK(x.size() == y.size(), "largest_difference: ", a, " and ", b);
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) || std::isnan(y[i])) return std::nan("");
    largest = std::max(largest, std::abs(x[i] - y[i]));
  }
  return largest;
}

inline double largest_magnitude(const Tensor& a) { return largest_difference(a, Tensor::zeros(a.shape(), a.dtype())); }

inline bool all_finite(const Tensor& x) {
  const std::vector<double> values = values_of(x);
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

}  // namespace echo
