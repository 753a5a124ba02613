#pragma once

#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/common.cuh"

// Neighbouring elements as f32 in registers, for any dtype in memory. For kernels whose tensors differ in dtype or whose rows
// may be unaligned. Also divide(), which splits a flat index into row and column.
namespace echo::kernels::cuda {

// kCount neighbours. kCount 1 works at any address. Otherwise kCount is a multiple of the dtype's vector, and the address is
// aligned to 16 bytes.
template <int kCount, class T>
__device__ __forceinline__ void load_elements(float (&values)[kCount], const T* from) {
  if constexpr (kCount == 1) {
    values[0] = to_float(*from);
  } else {
    constexpr int kVector = kPerVector<T>;
    static_assert(kCount % kVector == 0);
#pragma unroll
    for (int part = 0; part < kCount; part += kVector) {
      float read[kVector];
      load_vector(read, from + part);
#pragma unroll
      for (int i = 0; i < kVector; ++i) values[part + i] = read[i];
    }
  }
}

template <int kCount, class T>
__device__ __forceinline__ void store_elements(T* to, const float (&values)[kCount]) {
  if constexpr (kCount == 1) {
    *to = from_float<T>(values[0]);
  } else {
    constexpr int kVector = kPerVector<T>;
    static_assert(kCount % kVector == 0);
#pragma unroll
    for (int part = 0; part < kCount; part += kVector) {
      float written[kVector];
#pragma unroll
      for (int i = 0; i < kVector; ++i) written[i] = values[part + i];
      store_vector(to + part, written);
    }
  }
}

// True when rows of `width` elements of T of all these tensors can be accessed 16 bytes at a time. Undefined tensors are
// ignored.
template <class T>
bool rows_are_aligned(std::initializer_list<const Tensor*> tensors, int64_t width) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const Tensor* each) { return is_vector_aligned(data_or_null<T>(*each), width); });
}

// Elements per access when tensors of both dtypes are aligned: one 16-byte vector of the narrower dtype.
template <class A, class B>
inline constexpr int kPerThread = kPerVector<A> > kPerVector<B> ? kPerVector<A> : kPerVector<B>;

// Uses 32-bit division when both numbers fit, which needs a fifth of the instructions.
__device__ __forceinline__ int64_t divide(int64_t value, int64_t by) {
  if (((value | by) >> 32) == 0) return int64_t(uint32_t(value) / uint32_t(by));
  return value / by;
}

}  // namespace echo::kernels::cuda
