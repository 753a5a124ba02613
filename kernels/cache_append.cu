// New positions of a generation step on a GPU, in one launch per layer: a thread owns a pair of elements (x[i], x[i + Dh / 2])
// of a query, key or value head, or one element of a row that is only copied. A few thousand elements in all: the launch is
// what they cost.
#include "kernels/cache_append.h"
#include "kernels/cuda_common.cuh"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 128;

struct Strides {
  int64_t batch, position, head;
};
Strides strides_of(const Tensor& tensor) { return {tensor.stride(0), tensor.stride(1), tensor.stride(2)}; }

// Where a sequence's new position is.
__device__ __forceinline__ int new_position(const int* lengths, int batch, int capacity) {
  const int length = lengths[batch];
  return (length < 1 ? 1 : length > capacity ? capacity : length) - 1;
}

__global__ void extend(int* lengths, int count, int capacity) {
  const int b = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (b < count) lengths[b] = lengths[b] < capacity ? lengths[b] + 1 : capacity;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    append_rows(T* cache, Strides to, const T* rows, Strides from, const int* lengths, int capacity, int heads, int width) {
  follow_previous();
  const int batch = int(blockIdx.y), item = int(blockIdx.x) * kThreads + int(threadIdx.x);
  const int head = item / width, d = item - head * width;
  if (head >= heads) return;
  const int64_t position = new_position(lengths, batch, capacity);
  cache[batch * to.batch + position * to.position + head * to.head + d] = rows[batch * from.batch + head * from.head + d];
}

template <class T>
struct Arguments {
  T *q, *k_cache, *v_cache;
  const T *k, *v;
  const float *cosines, *sines;
  const int* lengths;
  Strides q_strides, k_strides, v_strides, k_cache_strides, v_cache_strides;
  int heads, key_heads, half, capacity;
};

template <class T>
__global__ void __launch_bounds__(kThreads) rotate_and_append_rows(Arguments<T> a) {
  follow_previous();
  const int batch = int(blockIdx.y), item = int(blockIdx.x) * kThreads + int(threadIdx.x);
  int head = item / a.half;
  const int i = item - head * a.half;
  if (head >= a.heads + 2 * a.key_heads) return;
  const int64_t position = new_position(a.lengths, batch, a.capacity);
  const T* source;
  T* target;
  const bool is_value = head >= a.heads + a.key_heads;
  if (head < a.heads) {
    target = a.q + batch * a.q_strides.batch + head * a.q_strides.head;
    source = target;
  } else if (!is_value) {
    head -= a.heads;
    source = a.k + batch * a.k_strides.batch + head * a.k_strides.head;
    target =
        a.k_cache + batch * a.k_cache_strides.batch + position * a.k_cache_strides.position + head * a.k_cache_strides.head;
  } else {
    head -= a.heads + a.key_heads;
    source = a.v + batch * a.v_strides.batch + head * a.v_strides.head;
    target =
        a.v_cache + batch * a.v_cache_strides.batch + position * a.v_cache_strides.position + head * a.v_cache_strides.head;
  }
  const float first = to_float(source[i]), second = to_float(source[i + a.half]);
  const float cosine = is_value ? 1.0f : a.cosines[position * a.half + i],
              sine = is_value ? 0.0f : a.sines[position * a.half + i];
  target[i] = from_float<T>(is_value ? first : first * cosine - second * sine);
  target[i + a.half] = from_float<T>(is_value ? second : second * cosine + first * sine);
}

}  // namespace

void extend_lengths(Tensor& lengths, int64_t capacity) {
  if (lengths.elements() == 0) return;
  launch(extend, blocks_for(lengths.elements(), kThreads), kThreads, 0, stream(), lengths.data<int32_t>(), lengths.elements(),
         capacity);
}

void append_to_cache(Tensor& cache, const Tensor& rows, const Tensor& lengths) {
  if (rows.elements() == 0) return;
  dispatch_gpu_float("append_to_cache", cache.dtype(), [&]<class T>() {
    const dim3 grid(blocks_for(cache.dim(2) * cache.dim(3), kThreads), unsigned(cache.dim(0)));
    launch_early(append_rows<T>, grid, kThreads, 0, stream(), cache.data<T>(), strides_of(cache), rows.data<T>(),
                 strides_of(rows), lengths.data<int32_t>(), cache.dim(1), cache.dim(2), cache.dim(3));
  });
}

void rotate_and_append(Tensor& q, Tensor& k_cache, Tensor& v_cache, const Tensor& k, const Tensor& v, const RopeTable& table,
                       const Tensor& lengths) {
  const int64_t half = k.dim(3) / 2, items = (q.dim(2) + 2 * k.dim(2)) * half;
  if (q.dim(0) * items == 0) return;
  dispatch_gpu_float("rotate_and_append", q.dtype(), [&]<class T>() {
    const Arguments<T> a = {q.data<T>(),
                            k_cache.data<T>(),
                            v_cache.data<T>(),
                            k.data<T>(),
                            v.data<T>(),
                            table.cosine.data<float>(),
                            table.sine.data<float>(),
                            lengths.data<int32_t>(),
                            strides_of(q),
                            strides_of(k),
                            strides_of(v),
                            strides_of(k_cache),
                            strides_of(v_cache),
                            int(q.dim(2)),
                            int(k.dim(2)),
                            int(half),
                            int(k_cache.dim(1))};
    launch_early(rotate_and_append_rows<T>, dim3(blocks_for(items, kThreads), unsigned(q.dim(0))), kThreads, 0, stream(), a);
  });
}

}  // namespace echo::kernels::cuda
