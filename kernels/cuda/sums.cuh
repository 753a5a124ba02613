#pragma once

#include "kernels/cuda/common.cuh"
#include "tensor/cuda_memory.h"

// Sums of very many terms, with the same bits in every run. Each block adds up a slice of fixed length in f64. One block adds
// the sums of the slices in a fixed order, and the host reads one f64.
namespace echo::kernels::cuda {

inline constexpr int kSumThreads = 256;
inline constexpr int64_t kSumSlice = 1 << 15;  // elements; a block reads 64 or 128 KiB

enum class SumOf { values, squares };

// The sum of x[i] or of x[i]^2 over a slice, in every thread. The squares of f32 and bf16 are exact in f64. Each thread has
// kLoads vectors in flight, each with its own sum.
template <SumOf kOf, class T>
__device__ __forceinline__ double slice_sum(const T* x, int64_t count, double* scratch) {
  constexpr int kVector = kPerVector<T>, kLoads = 4;
  const auto term = [](double value) { return kOf == SumOf::values ? value : value * value; };
  const int vectors = reinterpret_cast<uintptr_t>(x) % 16 == 0 ? int(count / kVector) : 0;
  double totals[kLoads] = {};
  for (int first = int(threadIdx.x); first < vectors; first += kLoads * kSumThreads) {
    float values[kLoads][kVector];
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const int index = first + load * kSumThreads;
#pragma unroll
      for (int i = 0; i < kVector; ++i) values[load][i] = 0;
      if (index < vectors) load_vector(values[load], x + index * kVector);
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load)
#pragma unroll
      for (int i = 0; i < kVector; ++i) totals[load] += term(values[load][i]);
  }
  for (int64_t i = int64_t(vectors) * kVector + threadIdx.x; i < count; i += kSumThreads) totals[0] += term(to_float(x[i]));
  return block_sum<kSumThreads / kWarp>((totals[0] + totals[1]) + (totals[2] + totals[3]), scratch);
}

// *result = the sum of `count` numbers. Runs as one block.
template <class Number>
__global__ void __launch_bounds__(kSumThreads) add_slices(Number* result, const Number* slices, int64_t count) {
  __shared__ Number scratch[kSumThreads / kWarp];
  Number total = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) total += slices[i];
  total = block_sum<kSumThreads / kWarp>(total, scratch);
  if (threadIdx.x == 0) *result = total;
}

// The sum of the slices' sums. Waits for the device. `slices`: f64, at least one.
inline double total_of(const Tensor& slices) {
  const Tensor result = Tensor::empty({1}, DType::f64, slices.device());
  launch(add_slices<double>, 1, kSumThreads, 0, stream(), result.data<double>(), slices.data<double>(), slices.elements());
  double total = 0;
  echo::cuda::copy_to_host(&total, result.raw_data(), sizeof total);
  return total;
}

}  // namespace echo::kernels::cuda
