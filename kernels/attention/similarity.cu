// Similarities of attention matrices on a GPU. A block owns 16 rows of one head at a time. It processes a share of the head's
// row blocks, long and short ones mixed, and loops over their keys in tiles of 32 or 16:
//   1. The warps rebuild the tile of all layers in shared memory. A warp takes 8 keys of 4 layers. For bf16, scores are
//   computed by
//      mma.m16n8k16, whose k may be any permutation of Dh that both operands share. So a lane loads 16 bytes each of queries
//      and keys, directly into registers. For other inputs a lane owns 2 x 2 scores, in f32.
//   2. A thread owns the products of 8 layers by 8 layers for one row, in registers, with one f32 sum each along the row. With
//   few
//      layers, several threads share the keys of a row.
// After the last key the products are combined in shared memory, where the cosines of rows are computed. Sums over rows are
// f64, one set per block. A second kernel adds these in order, so that two equal runs give the same bits.
// Shared memory for L layers, padded to a multiple of 8: 64 keys (L + 4) bytes, which is 57 KiB for 24 layers (at least 49
// KiB), so that two blocks fit on a multiprocessor, plus 12 bytes per row and layer. Work per row and key: 64 additions for
// each of the (L / 8) (L / 8 + 1) / 2 pairs of blocks of layers, L exponentials, and L Dh products. Bytes: Q once and K once
// per 16 rows, both from the L2 cache.
#include <algorithm>
#include <cmath>

#include "kernels/attention/similarity.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/matrix.cuh"
#include "tensor/cuda_device.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 192, kWarps = kThreads / kWarp;
constexpr int kRows = 16;  // rows of a block: those of one instruction
constexpr int kBlock = 8;  // a thread holds the products of kBlock x kBlock layers
constexpr int kEntries = kBlock * kBlock;
constexpr int kQuad = 4;  // layers whose probabilities are stored together
constexpr int kKeysOfTask = 8;
constexpr int kKinds = 3;                 // products, without_first, cosines
constexpr int kGroupsPerHead = 32;        // blocks that share a head
constexpr int64_t kTileBytes = 76 << 10;  // two blocks fit on a multiprocessor of an A100

// Distance in floats between two entries of all units in shared memory. It is a constant, so that addresses need no registers,
// and odd (see add_rows).
__host__ __device__ constexpr int stage_stride(int units) { return units * kThreads + 1; }

// One layer: addresses and strides, in the form that the device reads.
struct Layer {
  int64_t q, k, lse;
  int64_t q_row, q_head, k_row, k_head;
};
constexpr int64_t kLayerWords = sizeof(Layer) / sizeof(int64_t);

struct Sizes {
  int layers, padded, tokens, heads, group, width;  // padded: layers, to a multiple of kBlock
  int keys, pairs, slices,
      units;     // keys of a tile; pairs of blocks; threads that take turns with a row's keys; units of a thread
  float factor;  // scale * log2 e, so that scores are exponents of 2

  __host__ __device__ int cell() const { return padded + 4; }  // floats per row and key; eight rows use different banks
  __host__ __device__ int key_stride() const { return kRows * cell() + 4; }
  __host__ __device__ int slots() const { return slices * pairs * kRows; }
  __host__ __device__ int tile_floats() const { return keys * key_stride(); }
  __host__ __device__ int stage_floats() const { return kEntries * stage_stride(units); }
  __host__ __device__ int work_floats() const {
    const int most = tile_floats() > stage_floats() ? tile_floats() : stage_floats();
    return (most + 1) / 2 * 2;  // doubles follow
  }
};

// The numbers of two blocks of layers, first <= second. pair_of() counts the pairs row by row.
struct Pair {
  int first, second;
};
__device__ __forceinline__ Pair pair_of(int number, int blocks) {
  int first = 0;
  while (number >= blocks - first) number -= blocks - first++;
  return {first, first + number};
}

enum class Scores {
  matrix,
  vectors,
  elements
};  // how they are computed: bf16 by instructions, f32 by vectors, anything by elements

// c = the scores of rows group and group + 8 with keys 2 member and 2 member + 1 of the 8 keys from `key` on: dot products.
template <class T, Scores kScores>
__device__ __forceinline__ void score(float (&c)[4], const Layer& layer, const Sizes& s, int head, int row, int key) {
  const int lane = int(threadIdx.x) % kWarp, group = lane / 4, member = lane % 4;
  const T* const q = reinterpret_cast<const T*>(layer.q) + head * layer.q_head;
  const T* const k = reinterpret_cast<const T*>(layer.k) + head / s.group * layer.k_head;
  const T* const upper = q + min(row + group, s.tokens - 1) * layer.q_row;
  const T* const lower = q + min(row + group + 8, s.tokens - 1) * layer.q_row;
  if constexpr (kScores == Scores::matrix) {
    const T* const keys = k + min(key + group, s.tokens - 1) * layer.k_row;
    const uint4 zero = make_uint4(0, 0, 0, 0);
    const auto load = [&](const T* from, int d) {
      return d < s.width ? __ldg(reinterpret_cast<const uint4*>(from + d)) : zero;
    };
#pragma unroll 2
    for (int d = member * 8; d < (s.width + 31) / 32 * 32; d += 32) {
      const uint4 x = load(upper, d), y = load(lower, d), z = load(keys, d);
      const uint32_t first[4] = {x.x, y.x, x.y, y.y}, second[4] = {x.z, y.z, x.w, y.w};
      const uint32_t first_keys[2] = {z.x, z.y}, second_keys[2] = {z.z, z.w};
      multiply_bf16(c, first, first_keys);
      multiply_bf16(c, second, second_keys);
    }
  } else {
    const T* const left = k + min(key + 2 * member, s.tokens - 1) * layer.k_row;
    const T* const right = k + min(key + 2 * member + 1, s.tokens - 1) * layer.k_row;
    constexpr int kStep = kScores == Scores::vectors ? kPerVector<T> : 1;
    for (int d = 0; d < s.width; d += kStep) {
      float x[kStep], y[kStep], a[kStep], b[kStep];
      if constexpr (kScores == Scores::vectors) {
        load_vector(x, upper + d), load_vector(y, lower + d), load_vector(a, left + d), load_vector(b, right + d);
      } else {
        x[0] = to_float(upper[d]), y[0] = to_float(lower[d]), a[0] = to_float(left[d]), b[0] = to_float(right[d]);
      }
#pragma unroll
      for (int i = 0; i < kStep; ++i) c[0] += x[i] * a[i], c[1] += x[i] * b[i], c[2] += y[i] * a[i], c[3] += y[i] * b[i];
    }
  }
}

// tile[key][row][layer] = probabilities of `count` keys from `key` on. Zeros for padding layers.
template <class T, Scores kScores>
__device__ __forceinline__ void fill_tile(float* tile, const Layer* layers, const Sizes& s, int head, int row, int key,
                                          int count) {
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, group = lane / 4, member = lane % 4;
  const int parts = (count + kKeysOfTask - 1) / kKeysOfTask, tasks = s.padded / kQuad * parts;
  for (int task = warp; task < tasks; task += kWarps) {
    const int quad = task / parts * kQuad, first_key = task % parts * kKeysOfTask;
    float p[4][kQuad] = {};
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (quad + i >= s.layers) continue;
      const Layer& layer = layers[quad + i];
      float c[4] = {};
      score<T, kScores>(c, layer, s, head, row, key + first_key);
      const float* const lse = reinterpret_cast<const float*>(layer.lse) + int64_t(head) * s.tokens;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at_row = row + group + j / 2 * 8, at_key = key + first_key + 2 * member + j % 2;
        if (at_row >= s.tokens || at_key > at_row) continue;
        const float exponent = c[j] * s.factor - __ldg(lse + at_row) * kLog2E;
        // Rounding may make a score slightly larger than lse. If the exponent is not finite, exponent * 0 is NaN. Without this
        // term the exponential could be 0, and damaged weights would look like sparse attention.
        p[j][i] = fast_exp2(fminf(exponent, 0.0f)) + exponent * 0.0f;
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      store_vector(tile + (first_key + 2 * member + j % 2) * s.key_stride() + (group + j / 2 * 8) * s.cell() + quad, p[j]);
  }
}

// sums += products of two blocks of layers for one row, over every `slices`-th key of a tile.
__device__ __forceinline__ void add_products(float (&sums)[kEntries], const float* tile, const Sizes& s, int row, Pair pair,
                                             int slice, int count) {
  const float* const cells = tile + row * s.cell();
  for (int key = slice; key < count; key += s.slices) {
    const float* const cell = cells + key * s.key_stride();
    float left[2][4], right[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_vector(left[i], cell + pair.first * kBlock + 4 * i);
      load_vector(right[i], cell + pair.second * kBlock + 4 * i);
    }
#pragma unroll
    for (int i = 0; i < kBlock; ++i)
#pragma unroll
      for (int j = 0; j < kBlock; ++j) sums[i * kBlock + j] += left[i / 4][i % 4] * right[j / 4][j % 4];
  }
}

// The products of a row block in shared memory: stage[entry][slice][pair][row], without the first column, which is in
// first[row][layer].
struct Stage {
  const float *products, *first;
  const double* inverse_norms;  // [row][layer]
};
__device__ __forceinline__ double without_first(const Stage& stage, const Sizes& s, int pair, int entry, int row) {
  const float* at = stage.products + entry * stage_stride(s.units) + pair * kRows + row;
  double sum = *at;
  for (int slice = 1; slice < s.slices; ++slice) sum += double(at[slice * s.pairs * kRows]);
  return sum;
}
__device__ __forceinline__ double of_first(const Stage& stage, const Sizes& s, int i, int j, int row) {
  return double(stage.first[row * s.padded + i]) * double(stage.first[row * s.padded + j]);
}

// Adds the rows of a block to its sums, [kind][pair][entry]. `is_new`: the sums are not initialised yet.
__device__ __forceinline__ void add_rows(double* sums, const Stage& stage, double* inverse_norms, const Sizes& s, int rows,
                                         bool is_new) {
  const int blocks = s.padded / kBlock, entries = s.pairs * kEntries;
  for (int item = int(threadIdx.x); item < rows * s.layers; item += kThreads) {
    const int row = item / s.layers, layer = item % s.layers, block = layer / kBlock;
    const int diagonal = block * blocks - block * (block - 1) / 2;  // the pair (block, block)
    const double whole =
        without_first(stage, s, diagonal, layer % kBlock * (kBlock + 1), row) + of_first(stage, s, layer, layer, row);
    inverse_norms[row * s.padded + layer] = 1.0 / sqrt(whole);
  }
  __syncthreads();
  for (int item = int(threadIdx.x); item < entries; item += kThreads) {
    const int number = item / kEntries, entry = item % kEntries;
    const Pair pair = pair_of(number, blocks);
    const int i = pair.first * kBlock + entry / kBlock, j = pair.second * kBlock + entry % kBlock;
    if (i > j || j >= s.layers) {
      // unused entries, which are also added up later
      for (int kind = 0; kind < kKinds; ++kind) sums[kind * entries + item] = 0;
      continue;
    }
    double sum[kKinds] = {};
    for (int row = 0; row < rows; ++row) {
      const double rest = without_first(stage, s, number, entry, row), whole = rest + of_first(stage, s, i, j, row);
      sum[0] += whole;
      sum[1] += rest;
      sum[2] += whole * inverse_norms[row * s.padded + i] * inverse_norms[row * s.padded + j];
    }
#pragma unroll
    for (int kind = 0; kind < kKinds; ++kind) {
      double& target = sums[kind * entries + item];
      target = is_new ? sum[kind] : target + sum[kind];
    }
  }
}

// kUnits: (row, pair) units per thread.
template <class T, Scores kScores, int kUnits>
__global__ void __launch_bounds__(kThreads, kUnits == 1 ? 2 : 1) compare_rows(double* partial, const Layer* layers, Sizes s) {
  float* const tile = shared_memory<float>();
  double* const inverse_norms = reinterpret_cast<double*>(tile + s.work_floats());  // [kRows][padded]
  float* const first = reinterpret_cast<float*>(inverse_norms + kRows * s.padded);  // [kRows][padded]
  const int head = int(blockIdx.y), thread = int(threadIdx.x);
  const int units = s.pairs * kRows, blocks = (s.tokens + kRows - 1) / kRows;
  Pair pair[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u)
    pair[u] = pair_of(min((thread + u * kThreads) % units / kRows, s.pairs - 1), s.padded / kBlock);
  const int slice = thread / units;  // with several units per thread there is only one slice

  // Row blocks are assigned in alternating direction, so that every block gets long and short ones.
  for (int turn = 0; turn * int(gridDim.x) < blocks; ++turn) {
    const int within = turn % 2 == 0 ? int(blockIdx.x) : int(gridDim.x) - 1 - int(blockIdx.x),
              block = turn * int(gridDim.x) + within;
    if (block >= blocks) continue;
    const int start = block * kRows, rows = min(kRows, s.tokens - start);
    float sums[kUnits][kEntries] = {};
    for (int key = 0; key < start + rows; key += s.keys) {
      const int count = min(s.keys, start + rows - key);
      __syncthreads();
      fill_tile<T, kScores>(tile, layers, s, head, start, key, count);
      __syncthreads();
      // kept separately instead of being subtracted at the end, which loses no digits when it has nearly all of the mass
      if (key == 0) {
        for (int i = thread; i < kRows * s.padded; i += kThreads) {
          float& probability = tile[i / s.padded * s.cell() + i % s.padded];
          first[i] = probability;
          probability = 0;
        }
        __syncthreads();
      }
#pragma unroll
      for (int u = 0; u < kUnits; ++u)
        if (thread + u * kThreads < s.slots())
          add_products(sums[u], tile, s, thread % kRows, pair[u], kUnits == 1 ? slice : 0, count);
    }
    __syncthreads();
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
      if (thread + u * kThreads < s.slots())
#pragma unroll
        for (int i = 0; i < kEntries; ++i) tile[i * stage_stride(kUnits) + thread + u * kThreads] = sums[u][i];
    __syncthreads();
    add_rows(partial + (int64_t(head) * gridDim.x + blockIdx.x) * kKinds * s.pairs * kEntries, {tile, first, inverse_norms},
             inverse_norms, s, rows, turn == 0);
  }
}

// sums[head][i] = partial[head][every group][i], in order.
__global__ void __launch_bounds__(kThreads) add_groups(double* sums, const double* partial, int groups, int items) {
  const int item = int(blockIdx.x) * kThreads + int(threadIdx.x), head = int(blockIdx.y);
  if (item >= items) return;
  double sum = 0;
  for (int group = 0; group < groups; ++group) sum += partial[(int64_t(head) * groups + group) * items + item];
  sums[int64_t(head) * items + item] = sum;
}

Sizes sizes_of(std::span<const AttentionMatrix> layers, double scale) {
  const Tensor& q = layers[0].q;
  Sizes s = {};
  s.layers = int(layers.size()), s.padded = (s.layers + kBlock - 1) / kBlock * kBlock;
  s.tokens = int(q.dim(0)), s.heads = int(q.dim(1)), s.group = int(q.dim(1) / layers[0].k.dim(1)), s.width = int(q.dim(2));
  s.factor = float(scale) * kLog2E;
  const int blocks = s.padded / kBlock;
  s.pairs = blocks * (blocks + 1) / 2;
  s.slices = std::max(1, kThreads / (s.pairs * kRows));
  s.units = (s.pairs * kRows + kThreads - 1) / kThreads;
  s.keys = 32;
  if (s.tile_floats() * int64_t{4} > kTileBytes) s.keys = 16;
  return s;
}

template <class T>
bool rows_are_vectors(const AttentionMatrix& layer) {
  return layer.q.dim(2) % kPerVector<T> == 0 && is_vector_aligned(layer.q.data<T>(), layer.q.stride(0)) &&
         layer.q.stride(1) % kPerVector<T> == 0 && is_vector_aligned(layer.k.data<T>(), layer.k.stride(0)) &&
         layer.k.stride(1) % kPerVector<T> == 0;
}

template <class T, Scores kScores>
void start(const Tensor& partial, const Tensor& table, const Sizes& s, unsigned groups) {
  const size_t bytes = size_t(s.work_floats()) * 4 + size_t(kRows * s.padded) * (sizeof(double) + sizeof(float));
  ECHO_CHECK(int64_t(bytes) <= echo::cuda::properties().shared_bytes_per_block, "attention similarity: ", s.layers,
             " layers need ", bytes, " bytes of shared memory, this GPU has ", echo::cuda::properties().shared_bytes_per_block);
  const auto run = [&](auto* kernel) {
    launch(kernel, dim3(groups, unsigned(s.heads)), kThreads, bytes, stream(), partial.data<double>(),
           reinterpret_cast<const Layer*>(table.data<int64_t>()), s);
  };
  if (s.units == 1)
    run(compare_rows<T, kScores, 1>);
  else if (s.units == 2)
    run(compare_rows<T, kScores, 2>);
  else
    run(compare_rows<T, kScores, 3>);
}

}  // namespace

std::vector<SimilaritySums> similarity_sums(std::span<const AttentionMatrix> layers, double scale) {
  constexpr int64_t kMostLayers = 64;  // 36 pairs of blocks of 8 layers in 16 rows: 3 units per thread
  ECHO_CHECK(int64_t(layers.size()) <= kMostLayers, "attention similarity: ", layers.size(),
             " layers on a GPU, expected at most ", kMostLayers);
  const Sizes s = sizes_of(layers, scale);
  const Device device = layers[0].q.device();
  const int64_t items = kKinds * s.pairs * kEntries, groups = std::min((s.tokens + kRows - 1) / kRows, kGroupsPerHead);
  const Tensor partial = Tensor::empty({s.heads, groups, items}, DType::f64, device);
  const Tensor sums = Tensor::empty({s.heads, items}, DType::f64, device);
  dispatch_gpu_float("attention similarity", layers[0].q.dtype(), [&]<class T>() {
    std::vector<int64_t> words;
    bool vectors = true;
    for (const auto& [q, k, lse] : layers) {
      const auto address = [](const Tensor& tensor) { return int64_t(reinterpret_cast<intptr_t>(tensor.raw_data())); };
      for (const int64_t word : {address(q), address(k), address(lse), q.stride(0), q.stride(1), k.stride(0), k.stride(1)})
        words.push_back(word);
      vectors = vectors && rows_are_vectors<T>({q, k, lse});
    }
    const Tensor table = Tensor::from(words, {s.layers, kLayerWords}).to(device);
    constexpr Scores kFast = std::is_same_v<T, bfloat16> ? Scores::matrix : Scores::vectors;
    if (vectors)
      start<T, kFast>(partial, table, s, unsigned(groups));
    else
      start<T, Scores::elements>(partial, table, s, unsigned(groups));
  });
  launch(add_groups, dim3(blocks_for(items, kThreads), unsigned(s.heads)), kThreads, 0, stream(), sums.data<double>(),
         partial.data<double>(), int(groups), int(items));

  const std::vector<double> values = sums.to_vector<double>();
  std::vector<SimilaritySums> heads(size_t(s.heads), SimilaritySums{s.layers});
  const int blocks = s.padded / kBlock;
  const double* next = values.data();
  for (SimilaritySums& head : heads)
    for (std::vector<double>* kind : {&head.products, &head.without_first, &head.cosines})
      for (int first = 0; first < blocks; ++first)
        for (int second = first; second < blocks; ++second)
          for (int entry = 0; entry < kEntries; ++entry, ++next) {
            const int i = first * kBlock + entry / kBlock, j = second * kBlock + entry % kBlock;
            if (i <= j && j < s.layers) (*kind)[size_t(i * s.layers + j)] = *next;
          }
  return heads;
}

}  // namespace echo::kernels::cuda
