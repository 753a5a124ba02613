#pragma once

#include "kernels/cuda/common.cuh"
#include "tensor/cuda_memory.h"

// Sums of very many terms with the same bits in every run: a block adds up a slice of fixed length in f64, the slices' sums are
// added by one block in a fixed order, and one f64 goes to the host.
namespace echo::kernels::cuda {

inline constexpr int kSumThreads = 256;
inline constexpr int64_t kSumSlice = 1 << 15;  // elements; a block reads 64 or 128 KiB

// The sum of a[i] * b[i] over a slice, or of a[i] where b is null, in every thread. f32 and bf16 have exact products in f64.
//   kLoads vectors of each thread are under way at once, in sums of their own.
template <class T>
__device__ __forceinline__ double slice_sum(const T* a, const T* b, int64_t count, double* scratch) {
  constexpr int kVector = kPerVector<T>, kLoads = 4;
  const bool aligned = (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % 16 == 0;
  const int vectors = aligned ? int(count / kVector) : 0;
  double totals[kLoads] = {};
  for (int first = int(threadIdx.x); first < vectors; first += kLoads * kSumThreads) {
    float of_a[kLoads][kVector], of_b[kLoads][kVector];
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const int index = first + load * kSumThreads;
#pragma unroll
      for (int i = 0; i < kVector; ++i) of_a[load][i] = 0, of_b[load][i] = 0;
      if (index >= vectors) continue;
      load_vector(of_a[load], a + index * kVector);
      if (b != nullptr && b != a) load_vector(of_b[load], b + index * kVector);
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load)
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const double value = of_a[load][i];
        totals[load] += b == nullptr ? value : value * (b == a ? value : double(of_b[load][i]));
      }
  }
  for (int64_t i = int64_t(vectors) * kVector + threadIdx.x; i < count; i += kSumThreads) {
    const double value = to_float(a[i]);
    totals[0] += b == nullptr ? value : value * double(to_float(b[i]));
  }
  return block_sum<kSumThreads / kWarp>((totals[0] + totals[1]) + (totals[2] + totals[3]), scratch);
}

// *result = the sum of `count` numbers, by one block.
template <class Number>
__global__ void __launch_bounds__(kSumThreads) add_slices(Number* result, const Number* slices, int64_t count) {
  __shared__ Number scratch[kSumThreads / kWarp];
  Number total = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) total += slices[i];
  total = block_sum<kSumThreads / kWarp>(total, scratch);
  if (threadIdx.x == 0) *result = total;
}

// The sum of the slices' sums, on the host: waits for the device. `slices`: f64, at least one.
inline double total_of(const Tensor& slices) {
  const Tensor result = Tensor::empty({1}, DType::f64, slices.device());
  launch(add_slices<double>, 1, kSumThreads, 0, stream(), result.data<double>(), slices.data<double>(), slices.elements());
  double total = 0;
  echo::cuda::copy_to_host(&total, result.raw_data(), sizeof total);
  return total;
}

}  // namespace echo::kernels::cuda
