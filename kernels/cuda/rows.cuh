#pragma once

#include "kernels/cuda/elements.cuh"

// Rows in registers. A group of kGroup threads (a warp, or a block of kRowThreads) holds a row. Each thread has kVectors
// vectors of 16 bytes: thread t has the vectors t, t + kGroup, ... A block of kRowThreads threads holds kRowThreads / kGroup
// rows at once. Rows of up to 8192 elements fit.
namespace echo::kernels::cuda {

inline constexpr int kRowThreads = 256;
inline constexpr int kMostHeld = 32;  // maximum number of elements of a row in one thread

// Calls body.operator()<kGroup, kVectors>() for rows of `width` elements of T. Returns false when they do not fit in registers.
template <class T, class Body>
bool dispatch_row(int64_t width, Body&& body) {
  const int64_t vectors = (width + kPerVector<T> - 1) / kPerVector<T>;
  if (vectors <= 32) return body.template operator()<32, 1>(), true;
  if (vectors <= 128) return body.template operator()<32, 4>(), true;
  if (vectors <= 256) return body.template operator()<256, 1>(), true;
  if (vectors <= 512) return body.template operator()<256, 2>(), true;
  if (vectors <= 1024) return body.template operator()<256, 4>(), true;
  if constexpr (8 * kPerVector<T> <= kMostHeld)
    if (vectors <= 2048) return body.template operator()<256, 8>(), true;
  return false;
}

// Loads the thread's vectors of an aligned row of `width` elements, a multiple of the vector length. Zeros beyond the row, and
// for a null row.
template <int kGroup, int kVectors, class T>
__device__ __forceinline__ void load_row(uint4 (&raw)[kVectors], const T* row, int64_t width) {
  const int lane = int(threadIdx.x) % kGroup;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = (v * kGroup + lane) * kPerVector<T>;
    raw[v] = make_uint4(0, 0, 0, 0);
    if (row != nullptr && at < width) raw[v] = *reinterpret_cast<const uint4*>(row + at);
  }
}
template <int kGroup, int kVectors, class T>
__device__ __forceinline__ void store_row(T* row, const uint4 (&raw)[kVectors], int64_t width) {
  const int lane = int(threadIdx.x) % kGroup;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = (v * kGroup + lane) * kPerVector<T>;
    if (at < width) *reinterpret_cast<uint4*>(row + at) = raw[v];
  }
}

// Sums each of kCount numbers over the threads of a group, in a fixed order. Every thread gets the sums. All threads of the
// block must call it. `scratch`: kRowThreads / kWarp * kCount floats of shared memory, free again on return. Warps do not use
// it.
template <int kGroup, int kCount>
__device__ __forceinline__ void group_sum(float (&values)[kCount], float* scratch) {
  constexpr int kWarps = kRowThreads / kWarp;
  static_assert(kGroup == kWarp || kGroup == kRowThreads);
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = warp_sum(values[i]);
  if constexpr (kGroup == kRowThreads) {
    const int warp = int(threadIdx.x) / kWarp;
    if (threadIdx.x % kWarp == 0) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) scratch[i * kWarps + warp] = values[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = scratch[i * kWarps];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) values[i] += scratch[i * kWarps + w];
    }
    __syncthreads();
  }
}

template <int kGroup>
__device__ __forceinline__ float group_max(float value, float* scratch) {
  value = warp_max(value);
  if constexpr (kGroup == kRowThreads) {
    constexpr int kWarps = kRowThreads / kWarp;
    if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = scratch[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) value = scratch[w] > value ? scratch[w] : value;
    __syncthreads();
  }
  return value;
}

}  // namespace echo::kernels::cuda
