#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

// Compares a case on the CPU in f64 with a GPU in f32 or bf16. Suites that use it have Cuda in their name: `make test` runs
// those on the emulated device, and on a real one if there is one.
namespace echo {

inline constexpr Device kCuda{DeviceKind::cuda, 0};

// The device and dtype of a case. Inputs are first rounded to `rounded_to`, so that both sides start from the same numbers.
struct ParitySetting {
  Device device;
  DType dtype = DType::f64;
  DType rounded_to = DType::f64;

  Tensor input(const Shape& shape, uint64_t seed, double size = 1) const { return input(shape, seed, size, dtype, rounded_to); }
  // For inputs that are f32 for every dtype of activations (weights, sums).
  Tensor wide_input(const Shape& shape, uint64_t seed, double size = 1) const {
    return input(shape, seed, size, accumulator_dtype(dtype), DType::f32);
  }
  Tensor output(const Shape& shape) const { return Tensor::empty(shape, dtype, device); }
  Tensor wide_output(const Shape& shape) const { return Tensor::empty(shape, accumulator_dtype(dtype), device); }
  template <class T>
  Tensor indices(const std::vector<T>& values, const Shape& shape) const {
    return Tensor::from(values, shape).to(device);
  }

 private:
  Tensor input(const Shape& shape, uint64_t seed, double size, DType to, DType through) const {
    return kernels::cast(random_tensor(shape, through, seed, size), to).to(device);
  }
};

// Returns the tensors that are compared.
using ParityCase = std::function<std::vector<Tensor>(const ParitySetting&)>;

// Runs a case on the GPU three times. The emulated device runs threads forward, in reverse and in random order. The results
// must have the same bits. Returns them on the CPU.
inline std::vector<Tensor> run_on_cuda(const ParityCase& body, DType dtype) {
  std::vector<Tensor> first;
  for (const char* order : {"forward", "reverse", "random:7"}) {
    const ScopedEnvironment thread_order("CUDA_EMULATION_ORDER", order);
    std::vector<Tensor> results = body({kCuda, dtype, dtype});
    for (Tensor& result : results) result = result.to(Device{}).contiguous();
    if (first.empty()) {
      first = results;
      continue;
    }
    for (size_t i = 0; i < results.size(); ++i)
      EXPECT_TRUE(results[i].bytes() == first[i].bytes() &&
                  std::memcmp(results[i].raw_data(), first[i].raw_data(), size_t(first[i].bytes())) == 0)
          << "output " << i << " has other bits with threads in order " << order;
  }
  return first;
}

// `tolerance` is relative to the largest entry of each output, as computed on the CPU in f64.
inline void expect_parity(const ParityCase& body, DType dtype, double tolerance) {
  const std::vector<Tensor> expected = body({Device{}, DType::f64, dtype});
  const std::vector<Tensor> actual = run_on_cuda(body, dtype);
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!expected[i].defined()) continue;
    ASSERT_EQ(expected[i].shape(), actual[i].shape());
    const double scale = std::max(largest_magnitude(expected[i]), 1e-30);
    const double difference = largest_difference(expected[i], actual[i]) / scale;
    EXPECT_TRUE(difference <= tolerance) << dtype << " output " << i << ' ' << expected[i].shape() << " differs by "
                                         << difference << " of its largest entry, expected at most " << tolerance;
  }
}

}  // namespace echo
