#pragma once

#include <cmath>

#include "kernels/cast.h"
#include "kernels/rope.h"

namespace echo {

// Angles 0, step, 2 step, ... for `positions` positions of `pairs` pairs, row by row.
inline kernels::RopeTable rope_table_of_steps(double step, int64_t positions, int64_t pairs, DType dtype = DType::f64) {
  std::vector<double> cosine, sine;
  for (int64_t i = 0; i < positions * pairs; ++i) {
    cosine.push_back(std::cos(step * double(i)));
    sine.push_back(std::sin(step * double(i)));
  }
  const Shape shape{positions, pairs};
  return {kernels::cast(Tensor::from(cosine, shape), dtype), kernels::cast(Tensor::from(sine, shape), dtype)};
}

}  // namespace echo
