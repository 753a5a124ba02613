#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/random.h"
#include "tensor/tensor.h"

namespace echo::benchmarks {

// A case that gpu_benchmark times. `work` is one iteration, and need not wait for the device.
struct BenchmarkCase {
  std::function<void()> work;
  std::function<void()> before = [] {};                                         // runs before every sample, not timed
  std::function<void(nlohmann::json& answer)> report = [](nlohmann::json&) {};  // adds what is known after a sample
  int64_t iterations = 0;                                                       // per sample; 0: as many as fill it
};

inline DType dtype_from(const nlohmann::json& request) {
  const std::string name = request.value("dtype", "bf16");
  if (name == "bf16") return DType::bf16;
  if (name == "f32") return DType::f32;
  fail(ExitCode::usage, "dtype ", name, ": expected bf16 or f32");
}

// Uniform numbers with that standard deviation. Large tensors repeat a block of four million numbers, so that they are quick to
// make.
inline Tensor random_tensor(const Shape& shape, DType dtype, Device device, uint64_t seed, double deviation = 1) {
  constexpr int64_t kBlock = int64_t{4} << 20;
  const int64_t elements = shape.elements(), length = std::min(elements, kBlock);
  const Philox random(seed);
  Tensor values = Tensor::empty({length}, dtype);
  dispatch_float(dtype, [&]<class T>() {
    T* data = values.data<T>();
    const double range = deviation * std::sqrt(12.0);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < length; ++i) data[i] = T(static_cast<accumulator<T>>(range * (random.uniform(uint64_t(i)) - 0.5)));
  });
  values = values.to(device);
  if (elements == length) return values.reshape(shape);
  const Tensor result = Tensor::empty({elements}, dtype, device);
  for (int64_t at = 0; at < elements; at += kBlock) {
    const int64_t count = std::min(kBlock, elements - at);
    result.narrow(0, at, count).copy_from(values.narrow(0, 0, count));
  }
  return result.reshape(shape);
}

inline std::vector<int32_t> random_ids(int64_t count, int64_t vocabulary, uint64_t seed) {
  const Philox random(seed);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(int32_t(random.below(uint64_t(i), uint64_t(vocabulary))));
  return ids;
}

}  // namespace echo::benchmarks
