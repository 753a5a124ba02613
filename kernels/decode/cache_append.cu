// The new positions of a generation step on a GPU, with one launch per layer. A thread owns a pair of elements (x[i], x[i + Dh
// / 2]) of a query, key or value head, or one element of a row that is only copied. With only a few thousand elements, the cost
// is that of the launch.
#include "kernels/decode/cache_append.h"
#include "kernels/decode/new_position.cuh"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void extend(int* lengths, int count, int capacity) {
  const int b = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (b < count) lengths[b] = lengths[b] < capacity ? lengths[b] + 1 : capacity;
}

template <class T>
__global__ void __launch_bounds__(kThreads) append_rows(T* cache, HeadStrides to, const T* rows, HeadStrides from,
                                                        const int* lengths, int capacity, int heads, int width) {
  follow_previous();
  const int batch = int(blockIdx.y), item = int(blockIdx.x) * kThreads + int(threadIdx.x);
  const int head = item / width, d = item - head * width;
  if (head >= heads) return;
  const int64_t position = new_position(lengths, batch, capacity);
  cache[batch * to.batch + position * to.position + head * to.head + d] = rows[batch * from.batch + head * from.head + d];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rotate_and_append_rows(NewPosition<T> to, const T* k, HeadStrides k_strides, const T* v, HeadStrides v_strides) {
  follow_previous();
  const int batch = int(blockIdx.y), item = int(blockIdx.x) * kThreads + int(threadIdx.x);
  const int head = item / to.half, i = item - head * to.half;
  if (head >= to.heads + to.key_heads + to.value_heads) return;
  const auto place = to.place(batch, head, i);
  const T* const source = head < to.heads ? place.target
                          : head < to.heads + to.key_heads
                              ? k + batch * k_strides.batch + (head - to.heads) * k_strides.head + i
                              : v + batch * v_strides.batch + (head - to.heads - to.key_heads) * v_strides.head + i;
  to.store(place, to_float(source[0]), to_float(source[to.half]));
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
    launch_early(append_rows<T>, grid, kThreads, 0, stream(), cache.data<T>(), head_strides(cache), rows.data<T>(),
                 head_strides(rows), lengths.data<int32_t>(), cache.dim(1), cache.dim(2), cache.dim(3));
  });
}

void rotate_and_append(Tensor& q, Tensor& k_cache, Tensor& v_cache, const Tensor& k, const Tensor& v, const RopeTable& table,
                       const Tensor& lengths) {
  const int64_t half = k.dim(3) / 2, items = (q.dim(2) + 2 * k.dim(2)) * half;
  if (q.dim(0) * items == 0) return;
  dispatch_gpu_float("rotate_and_append", q.dtype(), [&]<class T>() {
    const NewPosition<T> to = {q.data<T>(),
                               k_cache.data<T>(),
                               v_cache.data<T>(),
                               table.cosine.data<float>(),
                               table.sine.data<float>(),
                               lengths.data<int32_t>(),
                               head_strides(q),
                               head_strides(k_cache),
                               head_strides(v_cache),
                               int(q.dim(2)),
                               int(k.dim(2)),
                               int(v.dim(2)),
                               int(half),
                               int(k_cache.dim(1))};
    launch_early(rotate_and_append_rows<T>, dim3(blocks_for(items, kThreads), unsigned(q.dim(0))), kThreads, 0, stream(), to,
                 k.data<T>(), head_strides(k), v.data<T>(), head_strides(v));
  });
}

}  // namespace echo::kernels::cuda
