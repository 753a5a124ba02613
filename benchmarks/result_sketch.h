#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "tensor/tensor.h"

namespace echo::benchmarks {

// 256 sums over a tensor's elements with random signs, which depend only on the position of the element. The distance between
// two sketches is that between the tensors, to about a twentieth. So two processes can compare results without exchanging them,
// and a wrong element is noticed at any position. Source: Charikar, Chen, Farach-Colton 2002 (count sketch).
inline nlohmann::json sketch_of(const Tensor& tensor) {
  constexpr int64_t kSums = 256;
  const Tensor values = tensor.to(Device{}).contiguous();
  std::vector<double> sums(kSums, 0.0);
  dispatch_float(values.dtype(), [&]<class T>() {
    const T* data = values.data<T>();
    uint64_t signs = 0;
    for (int64_t i = 0, count = values.elements(); i < count; ++i) {
      if (i % 64 == 0) {  // the next 64 signs: splitmix64 of their position
        signs = (uint64_t(i / 64) + 1) * 0x9e3779b97f4a7c15;
        signs = (signs ^ (signs >> 30)) * 0xbf58476d1ce4e5b9;
        signs = (signs ^ (signs >> 27)) * 0x94d049bb133111eb;
        signs ^= signs >> 31;
      }
      const double value = double(data[i]);
      sums[size_t(i % kSums)] += (signs >> (i % 64)) & 1 ? value : -value;
    }
  });
  return sums;  // sums that are not finite become null
}

}  // namespace echo::benchmarks
