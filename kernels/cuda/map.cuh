#pragma once

#include "kernels/cuda/elements.cuh"

// y[i] = function(...) for every element: the frame of all element-wise kernels on a GPU.
// A thread owns kItems vectors of elements, kMapThreads apart, and starts all its loads before its first store. One thread
// reads and writes each element, so the output may also be an input.
namespace echo::kernels::cuda {

inline constexpr int kMapThreads = 256;

// The arguments of a function: kInputs values of a and b, preceded by the old output if kReadsOutput.
//   struct Add { static constexpr int kInputs = 2; static constexpr bool kReadsOutput = false;
//                __device__ float operator()(float a, float b) const; };
template <class Function>
__device__ __forceinline__ float apply(const Function& function, float old, float a, float b) {
  if constexpr (Function::kReadsOutput && Function::kInputs == 2) return function(old, a, b);
  if constexpr (Function::kReadsOutput && Function::kInputs == 1) return function(old, a);
  if constexpr (!Function::kReadsOutput && Function::kInputs == 2) return function(a, b);
  if constexpr (!Function::kReadsOutput && Function::kInputs == 1) return function(a);
}

template <int kCount, int kItems, class Y, class X, class Function>
__global__ void __launch_bounds__(kMapThreads) map_elements(Y* y, const X* a, const X* b, int64_t vectors, Function function) {
  constexpr bool kOld = Function::kReadsOutput, kSecond = Function::kInputs == 2;
  const int64_t first = int64_t(blockIdx.x) * (kItems * kMapThreads) + threadIdx.x;
  float of_a[kItems][kCount], of_b[kItems][kCount], old[kItems][kCount];
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t index = first + item * kMapThreads;
    if (index >= vectors) continue;
    load_elements(of_a[item], a + index * kCount);
    if constexpr (kSecond) load_elements(of_b[item], b + index * kCount);
    if constexpr (kOld) load_elements(old[item], y + index * kCount);
  }
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t index = first + item * kMapThreads;
    if (index >= vectors) continue;
    float result[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      result[i] = apply(function, kOld ? old[item][i] : 0.0f, of_a[item][i], kSecond ? of_b[item][i] : 0.0f);
    store_elements(y + index * kCount, result);
  }
}

// `b` may be null when the function takes one input.
template <class Y, class X, class Function>
void map(Y* y, const X* a, const X* b, int64_t count, const Function& function) {
  constexpr int kCount = kPerThread<Y, X>, kItems = 32 / kCount / (Function::kInputs + Function::kReadsOutput > 1 ? 2 : 1);
  const bool aligned = is_vector_aligned(y, 0) && is_vector_aligned(a, 0) && is_vector_aligned(b, 0);
  const int64_t vectors = aligned ? count / kCount : 0, done = vectors * kCount, rest = count - done;
  if (vectors > 0)
    launch(map_elements<kCount, kItems, Y, X, Function>, blocks_for(vectors, kItems * kMapThreads), kMapThreads, 0, stream(), y,
           a, b, vectors, function);
  if (rest > 0)
    launch(map_elements<1, 4, Y, X, Function>, blocks_for(rest, 4 * kMapThreads), kMapThreads, 0, stream(), y + done, a + done,
           b == nullptr ? b : b + done, rest, function);
}

}  // namespace echo::kernels::cuda
