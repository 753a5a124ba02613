#pragma once

#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/common.cuh"

// Neighbouring elements as f32 in registers, whatever their dtype in memory, for kernels whose tensors differ in dtype or whose
// rows may be unaligned; and the division that turns a flat index into row and column.
namespace echo::kernels::cuda {

// kCount neighbours: 1 at any address; otherwise a multiple of the dtype's vector, from an address aligned to 16 bytes.
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

// Whether rows of `width` elements of T of all these tensors can be read 16 bytes at a time. Undefined tensors can.
template <class T>
bool rows_are_aligned(std::initializer_list<const Tensor*> tensors, int64_t width) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const Tensor* each) { return is_vector_aligned(data_or_null<T>(*each), width); });
}

// Elements that a thread takes at once where tensors of these dtypes are aligned: a vector of the narrower one.
template <class A, class B>
inline constexpr int kPerThread = kPerVector<A> > kPerVector<B> ? kPerVector<A> : kPerVector<B>;

// Division by 32 bits wherever both fit: a fifth of the instructions of the 64-bit one.
__device__ __forceinline__ int64_t divide(int64_t value, int64_t by) {
  if (((value | by) >> 32) == 0) return int64_t(uint32_t(value) / uint32_t(by));
  return value / by;
}

}  // namespace echo::kernels::cuda
