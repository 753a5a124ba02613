#pragma once

#include "kernels/cuda/common.cuh"
#include "tensor/tensor.h"

// Where the heads of a new position are stored in a generation step. Queries are rotated and stored in place. Keys are rotated
// and stored in the key cache. Values go to the value cache unchanged. A thread owns a pair of elements of a head, (x[i], x[i +
// Dh / 2]).
namespace echo::kernels::cuda {

struct HeadStrides {
  int64_t batch = 0, position = 0, head = 0;
};
inline HeadStrides head_strides(const Tensor& tensor) { return {tensor.stride(0), tensor.stride(1), tensor.stride(2)}; }

// The index of a sequence's new position. A length outside the cache is clamped.
__device__ __forceinline__ int new_position(const int* lengths, int batch, int capacity) {
  const int length = lengths[batch];
  return (length < 1 ? 1 : length > capacity ? capacity : length) - 1;
}

template <class T>
struct NewPosition {
  T *q, *k_cache, *v_cache;
  const float *cosines, *sines;
  const int* lengths;
  HeadStrides q_strides, k_strides, v_strides;
  int heads, key_heads, value_heads, half, capacity;  // heads are numbered: first queries, then keys, then values

  struct Place {
    T* target;
    bool turns;
    float cosine, sine;
  };
  __device__ __forceinline__ Place place(int batch, int head, int i) const {
    const int64_t position = new_position(lengths, batch, capacity);
    const auto in = [&](T* data, const HeadStrides& strides, int64_t at, int of) {
      return data + batch * strides.batch + at * strides.position + of * strides.head + i;
    };
    if (head >= heads + key_heads) return {in(v_cache, v_strides, position, head - heads - key_heads), false, 1, 0};
    T* const target = head < heads ? in(q, q_strides, 0, head) : in(k_cache, k_strides, position, head - heads);
    return {target, true, cosines[position * half + i], sines[position * half + i]};
  }
  __device__ __forceinline__ void store(const Place& to, float first, float second) const {
    to.target[0] = from_float<T>(to.turns ? first * to.cosine - second * to.sine : first);
    to.target[half] = from_float<T>(to.turns ? second * to.cosine + first * to.sine : second);
  }
};

}  // namespace echo::kernels::cuda
