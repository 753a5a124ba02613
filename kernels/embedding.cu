// Embedding on a GPU. Forward: a thread copies two vectors of the output, kThreads apart. Bytes per row: D elements read and D
// written.
// Backward is deterministic. Three small kernels group the positions by id; they use integer atomics, so the order within a
// group is arbitrary. Then each block takes one group and kThreads vectors of its row, sorts the group's positions in shared
// memory (8 KiB), and adds their gradients in registers, with four rows in flight. A group of more than kSortable positions is
// found again, in order, by a search through all ids. There are at most N / kSortable such groups. Bytes: dy is read once; the
// rows of ids that occur are written (and read, when accumulating); all rows are zeroed first when overwriting; and the groups
// cost about 20 bytes per position and 8 per row of the table.
#include "kernels/cuda/elements.cuh"
#include "kernels/embedding.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kItems = 2;

template <int kCount, class T, class W>
__global__ void __launch_bounds__(kThreads)
    gather(T* y, const int32_t* ids, const W* table, int64_t vectors, int64_t width, int64_t vocabulary) {
  float values[kItems][kCount];
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t index = (int64_t(blockIdx.x) * kItems + item) * kThreads + threadIdx.x;
    if (index >= vectors) continue;
    const int64_t row = divide(index * kCount, width), column = index * kCount - row * width;
    const int64_t id = ids[row];
    if (id >= 0 && id < vocabulary) {
      load_elements(values[item], table + id * width + column);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[item][i] = __uint_as_float(0x7fc00000u);
    }
  }
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t index = (int64_t(blockIdx.x) * kItems + item) * kThreads + threadIdx.x;
    if (index < vectors) store_elements(y + index * kCount, values[item]);
  }
}

// ---- backward: groups --------------------------------------------------------------------------------------------------
// Positions with the same id are adjacent in `members`, in any order. A group is identified by its first index there. At that
// index `group_id` and `group_size` describe the group. At all other indices the size is 0.
struct Groups {
  int* used;        // (1) number of indices already assigned
  int* counts;      // (V) positions of each id that have no index yet
  int* starts;      // (V)
  int* group_size;  // (N)
  int* group_id;    // (N)
  int* members;     // (N)
};

__global__ void __launch_bounds__(kThreads) count_ids(Groups groups, const int32_t* ids, int64_t count, int64_t vocabulary) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count && ids[i] >= 0 && ids[i] < vocabulary) atomicAdd(groups.counts + ids[i], 1);
}

// The lanes of a warp reserve indices for their ids together, with one atomic.
__global__ void __launch_bounds__(kThreads) place_groups(Groups groups, int64_t vocabulary) {
  const int64_t id = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int lane = int(threadIdx.x) % kWarp, size = id < vocabulary ? groups.counts[id] : 0;
  int before = size;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int other = __shfl_up_sync(kAllLanes, before, unsigned(distance));
    if (lane >= distance) before += other;
  }
  const int total = __shfl_sync(kAllLanes, before, kWarp - 1);
  int base = 0;
  if (lane == 0 && total > 0) base = atomicAdd(groups.used, total);
  const int start = __shfl_sync(kAllLanes, base, 0) + before - size;
  if (size == 0) return;
  groups.starts[id] = start;
  groups.group_size[start] = size;
  groups.group_id[start] = int(id);
}

__global__ void __launch_bounds__(kThreads)
    place_positions(Groups groups, const int32_t* ids, int64_t count, int64_t vocabulary) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count || ids[i] < 0 || ids[i] >= vocabulary) return;
  groups.members[groups.starts[ids[i]] + atomicAdd(groups.counts + ids[i], -1) - 1] = int(i);
}

// ---- backward: sums ----------------------------------------------------------------------------------------------------
constexpr int kSumThreads = 128;
constexpr int kSumWarps = kSumThreads / kWarp;
constexpr int kSortable = 1024;
constexpr int kSearched = 4;  // ids per thread in one step of the search

// sums += the gradients of the listed positions, in order.
template <int kCount, class T>
__device__ __forceinline__ void add_rows(float (&sums)[kCount], const T* dy, int64_t width, const int* list, int count) {
  constexpr int kRows = 4;
  int i = 0;
  for (; i + kRows <= count; i += kRows) {
    float rows[kRows][kCount];
#pragma unroll
    for (int r = 0; r < kRows; ++r) load_elements(rows[r], dy + list[i + r] * width);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int k = 0; k < kCount; ++k) sums[k] += rows[r][k];
  }
  for (; i < count; ++i) {
    float row[kCount];
    load_elements(row, dy + list[i] * width);
#pragma unroll
    for (int k = 0; k < kCount; ++k) sums[k] += row[k];
  }
}

// Appends to `list` the positions from `begin` on whose id is `id`, in order. Every thread checks kSearched neighbours. Returns
// the new length of the list.
__device__ __forceinline__ int search(int* list, int length, int* warp_counts, const int32_t* ids, int64_t begin, int64_t count,
                                      int id) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int64_t first = begin + int64_t(threadIdx.x) * kSearched;
  const unsigned below = (1u << lane) - 1;
  bool found[kSearched];
  int before = 0, total = 0;
#pragma unroll
  for (int j = 0; j < kSearched; ++j) found[j] = first + j < count && ids[first + j] == id;
#pragma unroll
  for (int j = 0; j < kSearched; ++j) {
    const unsigned vote = __ballot_sync(kAllLanes, found[j]);
    before += __popc(vote & below);
    total += __popc(vote);
  }
  if (lane == 0) warp_counts[warp] = total;
  __syncthreads();
  int place = length + before;
#pragma unroll
  for (int w = 0; w < kSumWarps; ++w) {
    if (w < warp) place += warp_counts[w];
    length += warp_counts[w];
  }
#pragma unroll
  for (int j = 0; j < kSearched; ++j)
    if (found[j]) list[place++] = int(first + j);
  __syncthreads();
  return length;
}

template <int kCount, class T>
__global__ void __launch_bounds__(kSumThreads)
    add_groups(float* d_table, const T* dy, const int32_t* ids, Groups groups, int64_t count, int64_t width, bool accumulate) {
  __shared__ int list[kSortable], unsorted[kSortable], warp_counts[kSumWarps];
  const int start = int(blockIdx.x), size = groups.group_size[start];
  if (size == 0) return;
  const int id = groups.group_id[start], thread = int(threadIdx.x);
  const int64_t column = (int64_t(blockIdx.y) * kSumThreads + thread) * kCount;
  const bool mine = column < width;
  float* target = d_table + id * width + column;
  const T* source = dy + column;
  float sums[kCount] = {};
  if (mine && accumulate) load_elements(sums, target);
  if (size <= kSortable) {
    for (int i = thread; i < size; i += kSumThreads) unsorted[i] = groups.members[start + i];
    __syncthreads();
    for (int i = thread; i < size; i += kSumThreads) {
      int rank = 0;
      for (int j = 0; j < size; ++j) rank += unsorted[j] < unsorted[i];
      list[rank] = unsorted[i];
    }
    __syncthreads();
    if (mine) add_rows(sums, source, width, list, size);
  } else {
    int length = 0;
    for (int64_t begin = 0; begin < count; begin += kSumThreads * kSearched) {
      length = search(list, length, warp_counts, ids, begin, count, id);
      if (length + kSumThreads * kSearched <= kSortable) continue;
      if (mine) add_rows(sums, source, width, list, length);
      __syncthreads();
      length = 0;
    }
    if (mine) add_rows(sums, source, width, list, length);
  }
  if (mine) store_elements(target, sums);
}

}  // namespace

void embedding_forward(Tensor& y, const Tensor& ids, const Tensor& table) {
  const int32_t* id = ids.data<int32_t>();
  if (y.elements() == 0) return;
  const int64_t width = table.dim(1);
  dispatch_gpu_float("embedding", y.dtype(), [&]<class T>() {
    dispatch_gpu_float("embedding", table.dtype(), [&]<class W>() {
      const auto run = [&](auto kernel, int64_t count) {
        const int64_t vectors = y.elements() / count;
        launch(kernel, blocks_for(vectors, kThreads * kItems), kThreads, 0, stream(), y.data<T>(), id, table.data<W>(), vectors,
               width, table.dim(0));
      };
      constexpr int kVector = kPerThread<T, W>;
      if (width % kVector == 0 && is_vector_aligned(y.data<T>(), width) && is_vector_aligned(table.data<W>(), width))
        run(gather<kVector, T, W>, kVector);
      else
        run(gather<1, T, W>, 1);
    });
  });
}

void embedding_backward(Tensor& d_table, GradientMode mode, const Tensor& dy, const Tensor& ids) {
  const int32_t* id = ids.data<int32_t>();
  if (mode == GradientMode::overwrite) d_table.fill_zero();
  if (dy.elements() == 0) return;
  const int64_t count = dy.dim(0), vocabulary = d_table.dim(0), width = d_table.dim(1);
  ECHO_CHECK(count <= INT32_MAX, "embedding_backward: dy ", dy, ", expected at most 2^31 - 1 rows");
  const Tensor scratch = Tensor::zeros({1 + 2 * vocabulary + 3 * count}, DType::i32, dy.device());
  Groups groups;
  groups.used = scratch.data<int32_t>();
  groups.counts = groups.used + 1;
  groups.starts = groups.counts + vocabulary;
  groups.group_size = groups.starts + vocabulary;
  groups.group_id = groups.group_size + count;
  groups.members = groups.group_id + count;
  launch(count_ids, blocks_for(count, kThreads), kThreads, 0, stream(), groups, id, count, vocabulary);
  if (vocabulary > 0) launch(place_groups, blocks_for(vocabulary, kThreads), kThreads, 0, stream(), groups, vocabulary);
  launch(place_positions, blocks_for(count, kThreads), kThreads, 0, stream(), groups, id, count, vocabulary);
  dispatch_gpu_float("embedding_backward", dy.dtype(), [&]<class T>() {
    const auto run = [&](auto kernel, int64_t per_thread) {
      launch(kernel, dim3(unsigned(count), blocks_for(width, kSumThreads * per_thread)), kSumThreads, 0, stream(),
             d_table.data<float>(), dy.data<T>(), id, groups, count, width, mode == GradientMode::accumulate);
    };
    constexpr int kVector = kPerVector<T>;
    if (is_vector_aligned(dy.data<T>(), width) && is_vector_aligned(d_table.data<float>(), width))
      run(add_groups<kVector, T>, kVector);
    else
      run(add_groups<1, T>, 1);
  });
}

}  // namespace echo::kernels::cuda
