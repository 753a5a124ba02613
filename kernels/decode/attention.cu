// One position of attention on a GPU. A block owns a range of positions of one sequence, for up to kHeads query heads of one
// group. These heads read the same keys and values, so each is read once. There are enough ranges to fill the GPU with a single
// sequence. Their number depends only on shapes. A second kernel joins their sums in a fixed order, so that two equal runs give
// the same bits.
//
// In a block of 4 warps, kLanes lanes form a row of lanes. It reads one position of the cache, 8 elements per lane (16 bytes of
// bf16), and takes every (128 / kLanes)-th position:
//   leader   writes scores to shared memory (kHeads per position), computes maximum and exponentials there, and writes raw
//   scores
//            to `probabilities`
//   follower loads the leader's probabilities into shared memory
//   both     sum weights times values in registers, and add these over lanes and warps
// Then join_ranges converts scores to probabilities and adds the outputs of the ranges.
// Shared memory: 4 kHeads (range + 32 kLanes) bytes, at most 48 KiB. Bytes moved per position and key head: K (leader only) and
// V once, plus 12 (leader) or 4 (follower) per head for the probabilities, which stay in the L2 cache between the two kernels.
#include <algorithm>

#include "kernels/cuda/common.cuh"
#include "kernels/decode/attention.h"
#include "tensor/cuda_device.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kElements = 8;  // of a cache row, per lane
constexpr int kInFlight = 4;  // loads of rows that a lane starts before it uses the first
constexpr int kShortestRange = 64, kLongestRange = 512;

// How the cache is divided: blocks are (range, head_chunks * key heads, sequence).
struct Cut {
  int range, ranges, group, head_chunks;
};

struct Sizes {
  int heads, key_heads, capacity, width;
};

template <class T>
struct Arguments {
  T* o;
  float* probabilities;  // (B, H, S)
  const T *q, *k, *v;
  const int* lengths;
  float *maxima, *sums, *partial;  // (B, H, ranges), twice; (B, H, ranges, Dh)
  int64_t o_batch, o_head, q_batch, q_head;
  int64_t k_batch, k_position, k_head, v_batch, v_position, v_head;
  Sizes sizes;
  Cut cut;
  float factor;  // scale * log2 e, so that scores are exponents of 2
};

__device__ __forceinline__ int length_of(const int* lengths, int batch, int capacity) {
  const int length = lengths[batch];
  return length < 1 ? 1 : length > capacity ? capacity : length;
}

// Loads 8 elements of a row from `first` on, with zeros beyond its width.
template <class T, bool kAligned>
__device__ __forceinline__ void load_elements(float (&values)[kElements], const T* row, int first, int width) {
  if constexpr (kAligned) {
#pragma unroll
    for (int part = 0; part < kElements; part += kPerVector<T>) {
      float piece[kPerVector<T>] = {};
      if (first + part < width) load_vector(piece, row + first + part);
#pragma unroll
      for (int i = 0; i < kPerVector<T>; ++i) values[part + i] = piece[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kElements; ++i) values[i] = first + i < width ? to_float(row[first + i]) : 0.0f;
  }
}

// Sums each of kCount values over the lanes whose numbers differ in the bits kHighest, kHighest / 2, ..., kLowest. While more
// than one value is left, a step gives half of the values to the other lane. At the end the lane holds its sums at the front of
// `values`, and `first` is the number of its first sum.
template <int kCount, int kHighest, int kLowest, int kSize>
__device__ __forceinline__ void scatter_sums(float (&values)[kSize], int lane, int& first) {
  if constexpr (kHighest >= kLowest) {
    if constexpr (kCount > 1) {
      constexpr int kHalf = kCount / 2;
      const bool upper = (lane & kHighest) != 0;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float received = __shfl_xor_sync(kAllLanes, upper ? values[i] : values[i + kHalf], kHighest);
        values[i] = (upper ? values[i + kHalf] : values[i]) + received;
      }
      if (upper) first += kHalf;
      scatter_sums<kHalf, kHighest / 2, kLowest>(values, lane, first);
    } else {
      values[0] += __shfl_xor_sync(kAllLanes, values[0], kHighest);
      scatter_sums<1, kHighest / 2, kLowest>(values, lane, first);
    }
  }
}

// The part of the problem that a block computes.
struct Place {
  int batch, key_head, first_head, heads;  // query heads [first_head, first_head + heads)
  int begin, count;                        // positions
};
template <class T, int kHeads>
__device__ __forceinline__ Place place_of(const Arguments<T>& a) {
  Place p;
  p.batch = int(blockIdx.z);
  p.key_head = int(blockIdx.y) / a.cut.head_chunks;
  const int chunk = int(blockIdx.y) % a.cut.head_chunks;
  p.first_head = p.key_head * a.cut.group + chunk * kHeads;
  p.heads = min(kHeads, a.cut.group - chunk * kHeads);
  p.begin = int(blockIdx.x) * a.cut.range;
  p.count = min(a.cut.range, length_of(a.lengths, p.batch, a.sizes.capacity) - p.begin);
  return p;
}

// weights[position][head] = the scores, scaled by `factor`, before the softmax.
template <class T, int kLanes, int kHeads, bool kAligned>
__device__ __forceinline__ void fill_scores(float* weights, const Arguments<T>& a, const Place& p) {
  constexpr int kRows = kThreads / kLanes;
  const int lane = int(threadIdx.x) % kWarp, in_row = int(threadIdx.x) % kLanes, row = int(threadIdx.x) / kLanes;
  const int element = in_row * kElements, width = a.sizes.width;
  float q[kHeads][kElements];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    load_elements<T, kAligned>(q[h], a.q + p.batch * a.q_batch + (p.first_head + min(h, p.heads - 1)) * a.q_head, element,
                               width);
#pragma unroll
    for (int i = 0; i < kElements; ++i) q[h][i] *= a.factor;
  }
  const T* const keys = a.k + p.batch * a.k_batch + p.key_head * a.k_head + int64_t(p.begin) * a.k_position;
  // the same bounds for all threads, because sums need whole warps
  for (int start = 0; start < p.count; start += kRows * kInFlight) {
    float key[kInFlight][kElements];
#pragma unroll
    for (int u = 0; u < kInFlight; ++u)
      load_elements<T, kAligned>(key[u], keys + min(start + u * kRows + row, p.count - 1) * a.k_position, element, width);
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      float scores[kHeads];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        scores[h] = q[h][0] * key[u][0];
#pragma unroll
        for (int i = 1; i < kElements; ++i) scores[h] += q[h][i] * key[u][i];
      }
      int head = 0;
      scatter_sums<kHeads, kLanes / 2, 1>(scores, lane, head);
      const int position = start + u * kRows + row;
      if (position < p.count && in_row % (kLanes / kHeads) == 0) weights[position * kHeads + head] = scores[0];
    }
  }
}

// Replaces the scores in `weights` by exponentials relative to the range's maximum. With kHeads = 8, a thread owns every 16th
// position of a head. Stores maximum and sum for join_ranges, and the scores in `probabilities`. `scratch`: kWarps * kHeads
// floats.
template <class T, int kHeads>
__device__ __forceinline__ void exponentiate(float* weights, float* scratch, const Arguments<T>& a, const Place& p) {
  const int head = int(threadIdx.x) % kHeads, first = int(threadIdx.x) / kHeads, warp = int(threadIdx.x) / kWarp;
  constexpr int kStep = kThreads / kHeads;
  const bool is_real = head < p.heads;
  const int64_t row = int64_t(p.batch) * a.sizes.heads + p.first_head + min(head, p.heads - 1);
  float* const target = a.probabilities == nullptr || !is_real ? nullptr : a.probabilities + row * a.sizes.capacity + p.begin;
  float highest = __int_as_float(int(0xff800000u));  // -infinity
  for (int i = first; i < p.count; i += kStep) {
    const float score = weights[i * kHeads + head];
    highest = fmaxf(highest, score);
    if (target != nullptr) target[i] = score;
  }
  const auto over_block = [&](float value, auto&& join) {
#pragma unroll
    for (int distance = kWarp / 2; distance >= kHeads; distance /= 2)
      value = join(value, __shfl_xor_sync(kAllLanes, value, distance));
    if (int(threadIdx.x) % kWarp < kHeads) scratch[warp * kHeads + head] = value;
    __syncthreads();
    value = scratch[head];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) value = join(value, scratch[w * kHeads + head]);
    __syncthreads();
    return value;
  };
  highest = over_block(highest, [](float x, float y) { return fmaxf(x, y); });
  float sum = 0;
  for (int i = first; i < p.count; i += kStep) {
    const float weight = fast_exp2(weights[i * kHeads + head] - highest);
    weights[i * kHeads + head] = weight;
    sum += weight;
  }
  sum = over_block(sum, [](float x, float y) { return x + y; });
  if (first == 0 && is_real) {
    a.maxima[row * a.cut.ranges + blockIdx.x] = highest;
    a.sums[row * a.cut.ranges + blockIdx.x] = sum;
  }
}

// Loads the leader's probabilities of the range. Heads that the group does not have get zeros.
template <class T, int kHeads>
__device__ __forceinline__ void fetch_probabilities(float* weights, const Arguments<T>& a, const Place& p) {
  const float* const rows = a.probabilities + (int64_t(p.batch) * a.sizes.heads + p.first_head) * a.sizes.capacity + p.begin;
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
    for (int i = int(threadIdx.x); i < p.count; i += kThreads)
      weights[i * kHeads + h] = h < p.heads ? rows[int64_t(h) * a.sizes.capacity + i] : 0.0f;
}

// partial = weights times values. `scratch`: kWarps * kHeads * kLanes * 8 floats.
template <class T, int kLanes, int kHeads, bool kAligned>
__device__ __forceinline__ void add_values(const float* weights, float* scratch, const Arguments<T>& a, const Place& p) {
  constexpr int kRows = kThreads / kLanes, kRow = kLanes * kElements;
  const int lane = int(threadIdx.x) % kWarp, in_row = int(threadIdx.x) % kLanes, row = int(threadIdx.x) / kLanes;
  const int element = in_row * kElements, width = a.sizes.width;
  float sums[kHeads * kElements] = {};
  const T* const values = a.v + p.batch * a.v_batch + p.key_head * a.v_head + int64_t(p.begin) * a.v_position;
  for (int start = row; start < p.count; start += kRows * kInFlight) {
    float value[kInFlight][kElements];
#pragma unroll
    for (int u = 0; u < kInFlight; ++u)
      load_elements<T, kAligned>(value[u], values + min(start + u * kRows, p.count - 1) * a.v_position, element, width);
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const int position = start + u * kRows;
      if (position >= p.count) continue;
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float weight = weights[position * kHeads + h];
#pragma unroll
        for (int i = 0; i < kElements; ++i) sums[h * kElements + i] += weight * value[u][i];
      }
    }
  }
  __syncwarp();
  int first = 0;  // index of the first element that this lane keeps, among kHeads * kElements
  scatter_sums<kHeads * kElements, kWarp / 2, kLanes>(sums, lane, first);
  constexpr int kKept = kHeads * kElements * kLanes / kWarp;
  float* const own = scratch + int(threadIdx.x) / kWarp * kHeads * kRow;
#pragma unroll
  for (int i = 0; i < kKept; ++i) own[(first + i) / kElements * kRow + element + (first + i) % kElements] = sums[i];
  __syncthreads();
  const int64_t head = int64_t(p.batch) * a.sizes.heads + p.first_head;
  for (int i = int(threadIdx.x); i < p.heads * kRow; i += kThreads) {
    const int h = i / kRow, d = i % kRow;
    if (d >= width) continue;
    float sum = scratch[i];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) sum += scratch[w * kHeads * kRow + i];
    a.partial[((head + h) * a.cut.ranges + blockIdx.x) * width + d] = sum;
  }
}

template <class T, int kLanes, int kHeads, bool kAligned, bool kLeader>
__global__ void __launch_bounds__(kThreads, 4) attend_range(Arguments<T> a) {
  follow_previous();
  const Place p = place_of<T, kHeads>(a);
  if (p.count <= 0) return;
  float* const weights = shared_memory<float>();  // [range][kHeads]
  float* const scratch = weights + a.cut.range * kHeads;
  if constexpr (kLeader) {
    fill_scores<T, kLanes, kHeads, kAligned>(weights, a, p);
    __syncthreads();
    exponentiate<T, kHeads>(weights, scratch, a, p);
  } else {
    fetch_probabilities<T, kHeads>(weights, a, p);
  }
  __syncthreads();
  add_values<T, kLanes, kHeads, kAligned>(weights, scratch, a, p);
}

// One block per (range, head, sequence) converts the scores of its range to probabilities. The block of range 0 also adds up
// the outputs.
template <class T, bool kLeader>
__global__ void __launch_bounds__(kThreads) join_ranges(Arguments<T> a) {
  __shared__ float scratch[kWarps];
  follow_previous();
  const int head = int(blockIdx.y), batch = int(blockIdx.z), thread = int(threadIdx.x);
  const int length = length_of(a.lengths, batch, a.sizes.capacity), ranges = (length + a.cut.range - 1) / a.cut.range;
  if (int(blockIdx.x) >= ranges) return;
  const int64_t row = int64_t(batch) * a.sizes.heads + head;
  const float *maxima = a.maxima + row * a.cut.ranges, *sums = a.sums + row * a.cut.ranges;
  float highest = 0, inverse = 1;
  if constexpr (kLeader) {
    highest = maxima[0];
    for (int i = 1; i < ranges; ++i) highest = fmaxf(highest, maxima[i]);
    float sum = 0;
    for (int i = thread; i < ranges; i += kThreads) sum += sums[i] * fast_exp2(maxima[i] - highest);
    inverse = 1.0f / block_sum<kWarps>(sum, scratch);
    if (a.probabilities != nullptr) {
      float* const p = a.probabilities + row * a.sizes.capacity;
      const int begin = int(blockIdx.x) * a.cut.range, end = min(begin + a.cut.range, length);
      for (int i = begin + thread; i < end; i += kThreads) p[i] = fast_exp2(p[i] - highest) * inverse;
    }
  }
  if (blockIdx.x != 0) return;
  for (int d = thread; d < a.sizes.width; d += kThreads) {
    const float* const partial = a.partial + row * a.cut.ranges * a.sizes.width + d;
    float sum = 0;
#pragma unroll 8
    for (int i = 0; i < ranges; ++i) {
      const float weight = kLeader ? fast_exp2(maxima[i] - highest) : 1.0f;
      sum += weight * partial[int64_t(i) * a.sizes.width];
    }
    a.o[batch * a.o_batch + head * a.o_head + d] = from_float<T>(sum * inverse);
  }
}

// Makes ranges long enough to be worth a block, and short enough to use all multiprocessors.
Cut cut_for(int64_t batches, const Sizes& sizes, int heads_per_block) {
  Cut cut;
  cut.group = sizes.heads / sizes.key_heads;
  cut.head_chunks = (cut.group + heads_per_block - 1) / heads_per_block;
  const int64_t wanted_blocks = 4 * int64_t(echo::cuda::properties().multiprocessors);
  const int64_t positions = batches * sizes.key_heads * cut.head_chunks * sizes.capacity;
  const int64_t range = (positions / wanted_blocks + 31) / 32 * 32;
  cut.range = int(std::clamp<int64_t>(range, kShortestRange, kLongestRange));
  cut.ranges = (sizes.capacity + cut.range - 1) / cut.range;
  return cut;
}

template <class T, int kLanes, int kHeads, bool kAligned, bool kLeader>
void start(Arguments<T> a, Device device, int64_t batches) {
  a.cut = cut_for(batches, a.sizes, kHeads);
  const int64_t rows = batches * a.sizes.heads * a.cut.ranges;
  const Tensor scratch = Tensor::empty(Shape{rows * (2 + a.sizes.width)}, DType::f32, device);
  a.maxima = scratch.data<float>();
  a.sums = a.maxima + rows;
  a.partial = a.sums + rows;
  const size_t shared_bytes = 4 * size_t(kHeads) * size_t(a.cut.range + kWarps * kLanes * kElements);
  const dim3 grid(unsigned(a.cut.ranges), unsigned(a.sizes.key_heads * a.cut.head_chunks), unsigned(batches));
  launch_early(attend_range<T, kLanes, kHeads, kAligned, kLeader>, grid, kThreads, shared_bytes, stream(), a);
  const dim3 join(kLeader && a.probabilities != nullptr ? unsigned(a.cut.ranges) : 1u, unsigned(a.sizes.heads),
                  unsigned(batches));
  launch_early(join_ranges<T, kLeader>, join, kThreads, 0, stream(), a);
}

template <class T, int kLanes, bool kLeader>
void start_for_group(const Arguments<T>& a, Device device, int64_t batches) {
  const int group = a.sizes.heads / a.sizes.key_heads;
  if (group == 1)
    start<T, kLanes, 1, true, kLeader>(a, device, batches);
  else if (group <= 4)
    start<T, kLanes, 4, true, kLeader>(a, device, batches);
  else
    start<T, kLanes, 8, true, kLeader>(a, device, batches);
}

template <bool kLeader>
void decode(Tensor& o, const Tensor& probabilities, const Tensor* q, const Tensor* k_cache, const Tensor& v_cache,
            const Tensor& lengths, double scale) {
  const char* const operation = kLeader ? "attention_decode" : "shared_attention_decode";
  ECHO_CHECK(o.dim(2) <= kWarp * kElements, operation, ": heads of ", o.dim(2), " elements on a GPU, expected at most ",
             kWarp * kElements);
  ECHO_CHECK(o.dim(0) < 1 << 16 && o.dim(1) < 1 << 16 && v_cache.dim(1) < 1 << 30, operation, ": o ", o, ", v_cache ", v_cache,
             ": too large for a GPU");
  dispatch_gpu_float(operation, o.dtype(), [&]<class T>() {
    Arguments<T> a = {};
    a.sizes = {int(o.dim(1)), int(v_cache.dim(2)), int(v_cache.dim(1)), int(o.dim(2))};
    a.o = o.data<T>(), a.o_batch = o.stride(0), a.o_head = o.stride(1);
    a.probabilities = data_or_null<float>(probabilities);
    a.lengths = lengths.data<int32_t>();
    bool aligned = o.dim(2) % kPerVector<T> == 0;
    const auto use = [&](const Tensor& tensor) {
      for (int i = 0; i + 1 < tensor.rank(); ++i) aligned = aligned && is_vector_aligned(tensor.data<T>(), tensor.stride(i));
      return tensor.data<T>();
    };
    if constexpr (kLeader) {
      a.q = use(*q), a.q_batch = q->stride(0), a.q_head = q->stride(1);
      a.k = use(*k_cache);
      a.k_batch = k_cache->stride(0), a.k_position = k_cache->stride(1), a.k_head = k_cache->stride(2);
    }
    a.v = use(v_cache), a.v_batch = v_cache.stride(0), a.v_position = v_cache.stride(1), a.v_head = v_cache.stride(2);
    a.factor = float(scale) * kLog2E;
    if (!aligned)
      start<T, 32, 1, false, kLeader>(a, o.device(), o.dim(0));
    else if (o.dim(2) <= 8 * kElements)
      start_for_group<T, 8, kLeader>(a, o.device(), o.dim(0));
    else if (o.dim(2) <= 16 * kElements)
      start_for_group<T, 16, kLeader>(a, o.device(), o.dim(0));
    else
      start_for_group<T, 32, kLeader>(a, o.device(), o.dim(0));
  });
}

}  // namespace

void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& lengths, double scale) {
  decode<true>(o, probabilities, &q, &k_cache, v_cache, lengths, scale);
}

void shared_attention_decode(Tensor& o, const Tensor& probabilities, const Tensor& v_cache, const Tensor& lengths) {
  decode<false>(o, probabilities, nullptr, nullptr, v_cache, lengths, 0);
}

}  // namespace echo::kernels::cuda
