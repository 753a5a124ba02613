// Attention on a GPU in f32 arithmetic, for tensors that the tensor-core kernels do not support: f32, other head widths,
// unaligned rows. A block of 8 warps owns 32 rows of the result (queries for o and dq, keys for dk and dv). It loops over tiles
// of 32 columns (keys, or queries head by head of the group). A warp owns 4 rows. For scores a lane owns one column of the
// tile, for results every 32nd column of Dh. The 4 x 32 weights between the two go through shared memory. Tiles are stored
// there as f32. The distance of rows is their width plus 4 words, so that 16-byte reads of 8 neighbouring rows use all banks.
// Shared memory, with W = Dh rounded up to 32, 64, 128 or 256: forward 3, value backward 3 and backward 4 tiles of 32 (W + 4)
// words, and 4 KiB of weights. Bytes from global memory per tile: 32 rows each of K and V (forward), of Q and dO (value
// backward), or of one matrix and of dO and V of every layer (backward). Sums are in the order of tiles, without atomics, so
// their bits are always the same.
#include "kernels/attention/views.cuh"

namespace echo::kernels::cuda::attention::plain {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRows = 4;               // of a warp
constexpr int kTile = kWarps * kRows;  // rows of a block, columns of a tile
static_assert(kTile == kWarp, "a lane owns one column of a tile");

// C = W / 32.
template <int C>
constexpr int kStride = 4 + (C * kWarp);
template <int C>
constexpr int kTileWords = (kTile * kStride<C>);
constexpr int kWeights = kTile * kRows;  // words of one warp
template <int C>
constexpr size_t shared_bytes(int tiles) {
  return sizeof(float) * size_t(tiles * kTileWords<C> + kWarps * kWeights);
}

// Blocks per multiprocessor. Without this bound the compiler aims at more and spills.
template <int C>
constexpr int kBlocks = C <= 2 ? 2 : 1;

// Rows from `rows` on and columns from `width` on become zero.
template <int C, class T>
__device__ __forceinline__ void load_tile(float* tile, const T* first_row, int64_t stride, int rows, int width) {
  for (int i = int(threadIdx.y); i < kTile; i += kWarps) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int d = c * kWarp + int(threadIdx.x);
      tile[i * kStride<C> + d] = i < rows && d < width ? to_float(first_row[i * stride + d]) : 0.0f;
    }
  }
}

// sums[r] += row r . column, over Dh.
template <int C>
__device__ __forceinline__ void add_products(float (&sums)[kRows], const float* rows, const float* column, int width) {
  for (int d = 0; d < width; d += 4) {
    float b[4];
    load_vector(b, column + d);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float a[4];
      load_vector(a, rows + r * kStride<C> + d);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[r] += a[i] * b[i];
    }
  }
}

// sums[r][c] += sum over lanes i of (weights[r] of lane i) * (row i of the tile).
template <int C>
__device__ __forceinline__ void add_weighted(float (&sums)[kRows][C], const float (&weights)[kRows], const float* tile,
                                             float* exchange) {
  __syncwarp();
  store_vector(exchange + threadIdx.x * kRows, weights);
  __syncwarp();
  for (int i = 0; i < kTile; ++i) {
    float w[kRows];
    load_vector(w, exchange + i * kRows);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float value = tile[i * kStride<C> + c * kWarp + int(threadIdx.x)];
#pragma unroll
      for (int r = 0; r < kRows; ++r) sums[r][c] += w[r] * value;
    }
  }
}

// Stores factor[r] * sums[r] as the warp's rows. Rows from `positions` on are not stored.
template <int C, class T>
__device__ __forceinline__ void store_rows(const HeadView<T>& to, int batch, int first_row, int head, int positions, int width,
                                           const float (&sums)[kRows][C], const float (&factor)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first_row + r >= positions) continue;
    T* const row = to.row(batch, first_row + r, head);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int d = c * kWarp + int(threadIdx.x);
      if (d < width) row[d] = from_float<T>(sums[r][c] * factor[r]);
    }
  }
}

// The smallest first key of 32 positions.
template <class T>
__device__ __forceinline__ int first_key_of_tile(const AttentionProblem<T>& problem, int batch, int start) {
  return -warp_max(-problem.first_key_of(batch, start + int(threadIdx.x)));
}

// A block of query rows. The last rows, which see most keys, come first.
struct QueryBlock {
  template <class T>
  __device__ explicit QueryBlock(const AttentionProblem<T>& problem)
      : head(int(blockIdx.x) % problem.heads),
        key_head(head / (problem.heads / problem.key_heads)),
        batch(int(blockIdx.x) / problem.heads),
        start(int(gridDim.y - 1 - blockIdx.y) * kTile),
        row(start + int(threadIdx.y) * kRows),
        key_begin(max(first_key_of_tile(problem, batch, start), 0) / kTile * kTile),
        key_end(min(start + kTile, problem.positions)) {}
  int head, key_head, batch, start;
  int row;                 // the warp's first
  int key_begin, key_end;  // the keys that the block's rows may see
};

template <class T, int C, bool kShared>
__global__ void __launch_bounds__(kThreads, kBlocks<C>)
    forward_rows(HeadView<T> o, float* lse, AttentionProblem<T> problem, HeadView<T> v) {
  float* const queries = shared_memory<float>();
  float* const keys = queries + kTileWords<C>;
  float* const values = keys + kTileWords<C>;
  float* const weights = values + kTileWords<C> + threadIdx.y * kWeights;
  const QueryBlock block(problem);
  const float scale = problem.scale * kLog2E;  // scores are exponents of 2
  const int lane = int(threadIdx.x), width = problem.width;

  int first[kRows];
  float highest[kRows], sum[kRows], sums[kRows][C] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    first[r] = problem.first_key_of(block.batch, block.row + r);
    highest[r] = kMasked;
    if constexpr (kShared)
      highest[r] =
          block.row + r < problem.positions ? lse[problem.statistic(block.batch, block.head, block.row + r)] * kLog2E : 0.0f;
    sum[r] = 0;
  }
  load_tile<C>(queries, problem.q.row(block.batch, block.start, block.head), problem.q.position_stride,
               problem.positions - block.start, width);
  for (int start = block.key_begin; start < block.key_end; start += kTile) {
    __syncthreads();
    load_tile<C>(keys, problem.k.row(block.batch, start, block.key_head), problem.k.position_stride, problem.positions - start,
                 width);
    load_tile<C>(values, v.row(block.batch, start, block.key_head), v.position_stride, problem.positions - start, width);
    __syncthreads();
    float p[kRows] = {};
    add_products<C>(p, queries + threadIdx.y * kRows * kStride<C>, keys + lane * kStride<C>, width);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool seen = start + lane >= first[r] && start + lane <= block.row + r;
      if constexpr (kShared) {
        p[r] = seen ? fast_exp2(at_most_zero(p[r] * scale - highest[r])) : 0.0f;
      } else {
        const float score = seen ? p[r] * scale : kMasked;
        const float before = highest[r];
        highest[r] = fmaxf(before, warp_max(score));
        const float factor = fast_exp2(before - highest[r]);
        p[r] = seen ? fast_exp2(score - highest[r]) : 0.0f;
        sum[r] = sum[r] * factor + p[r];
#pragma unroll
        for (int c = 0; c < C; ++c) sums[r][c] *= factor;
      }
    }
    add_weighted<C>(sums, p, values, weights);
  }

  float factor[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    factor[r] = 1;
    if constexpr (!kShared) {
      const float total = warp_sum(sum[r]);
      factor[r] = 1.0f / total;
      if (lane == 0 && block.row + r < problem.positions)
        lse[problem.statistic(block.batch, block.head, block.row + r)] = highest[r] * kLn2 + logf(total);
    }
  }
  store_rows<C>(o, block.batch, block.row, block.head, problem.positions, width, sums, factor);
}

// dv += P^T dO of the leader. With kScores also dk, using dP of all layers. dv.data may be null.
template <class T, int C, bool kScores>
__global__ void __launch_bounds__(kThreads, kBlocks<C>)
    backward_of_keys(HeadView<T> dk, HeadView<T> dv, SharingLayers<T> layers, AttentionProblem<T> problem, const float* lse,
                     const float* delta) {
  float* const keys = shared_memory<float>();
  float* const queries = keys + kTileWords<C>;
  float* const d_outputs = queries + kTileWords<C>;
  float* const values = d_outputs + kTileWords<C>;
  float* const weights = d_outputs + (kScores ? 2 : 1) * kTileWords<C> + threadIdx.y * kWeights;
  const int key_head = int(blockIdx.x) % problem.key_heads, batch = int(blockIdx.x) / problem.key_heads;
  const int group = problem.heads / problem.key_heads;
  const int key_start = int(blockIdx.y) * kTile, row = key_start + int(threadIdx.y) * kRows;
  const int own = int(threadIdx.y) * kRows * kStride<C>;
  const float scale = problem.scale * kLog2E;
  const int lane = int(threadIdx.x), width = problem.width;

  float dk_sums[kRows][C] = {}, dv_sums[kRows][C] = {};
  load_tile<C>(keys, problem.k.row(batch, key_start, key_head), problem.k.position_stride, problem.positions - key_start,
               width);
  for (int head = key_head * group; head < (key_head + 1) * group; ++head) {
    for (int start = key_start; start < problem.positions; start += kTile) {
      const int query = start + lane;
      const int first = problem.first_key_of(batch, query);
      if (__all_sync(kAllLanes, first >= key_start + kTile)) continue;  // the same decision in all warps
      __syncthreads();
      load_tile<C>(queries, problem.q.row(batch, start, head), problem.q.position_stride, problem.positions - start, width);
      if constexpr (!kScores)
        load_tile<C>(d_outputs, layers.of[0].d_o.row(batch, start, head), layers.of[0].d_o.position_stride,
                     problem.positions - start, width);
      __syncthreads();
      float p[kRows] = {};
      add_products<C>(p, keys + own, queries + lane * kStride<C>, width);
      const bool exists = query < problem.positions;
      const float normaliser = exists ? lse[problem.statistic(batch, head, query)] * kLog2E : 0.0f;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const bool seen = exists && row + r >= first && row + r <= query;
        p[r] = seen ? fast_exp2(at_most_zero(p[r] * scale - normaliser)) : 0.0f;
      }
      if constexpr (kScores) {
        // The leader comes last, so that its d_o is still in shared memory for dv.
        float ds[kRows] = {};
        for (int layer = layers.count - 1; layer >= 0; --layer) {
          const auto& of = layers.of[layer];
          __syncthreads();
          load_tile<C>(d_outputs, of.d_o.row(batch, start, head), of.d_o.position_stride, problem.positions - start, width);
          load_tile<C>(values, of.v.row(batch, key_start, key_head), of.v.position_stride, problem.positions - key_start,
                       width);
          __syncthreads();
          add_products<C>(ds, values + own, d_outputs + lane * kStride<C>, width);
        }
        const float sum = exists ? delta[problem.statistic(batch, head, query)] : 0.0f;
#pragma unroll
        for (int r = 0; r < kRows; ++r) ds[r] = p[r] * (ds[r] - sum);
        add_weighted<C>(dk_sums, ds, queries, weights);
      }
      add_weighted<C>(dv_sums, p, d_outputs, weights);
    }
  }
  const float one[kRows] = {1, 1, 1, 1}, scales[kRows] = {problem.scale, problem.scale, problem.scale, problem.scale};
  if (dv.data != nullptr) store_rows<C>(dv, batch, row, key_head, problem.positions, width, dv_sums, one);
  if constexpr (kScores) store_rows<C>(dk, batch, row, key_head, problem.positions, width, dk_sums, scales);
}

template <class T, int C>
__global__ void __launch_bounds__(kThreads, kBlocks<C>)
    backward_of_queries(HeadView<T> dq, SharingLayers<T> layers, AttentionProblem<T> problem, const float* lse,
                        const float* delta) {
  float* const queries = shared_memory<float>();
  float* const keys = queries + kTileWords<C>;
  float* const d_outputs = keys + kTileWords<C>;
  float* const values = d_outputs + kTileWords<C>;
  float* const weights = values + kTileWords<C> + threadIdx.y * kWeights;
  const QueryBlock block(problem);
  const int own = int(threadIdx.y) * kRows * kStride<C>;
  const float scale = problem.scale * kLog2E;
  const int lane = int(threadIdx.x), width = problem.width;

  int first[kRows];
  float normaliser[kRows], row_sums[kRows], sums[kRows][C] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    first[r] = problem.first_key_of(block.batch, block.row + r);
    const bool exists = block.row + r < problem.positions;
    const int64_t statistic = problem.statistic(block.batch, block.head, block.row + r);
    normaliser[r] = exists ? lse[statistic] * kLog2E : 0.0f;
    row_sums[r] = exists ? delta[statistic] : 0.0f;
  }
  load_tile<C>(queries, problem.q.row(block.batch, block.start, block.head), problem.q.position_stride,
               problem.positions - block.start, width);
  for (int start = block.key_begin; start < block.key_end; start += kTile) {
    __syncthreads();
    load_tile<C>(keys, problem.k.row(block.batch, start, block.key_head), problem.k.position_stride, problem.positions - start,
                 width);
    __syncthreads();
    float p[kRows] = {}, ds[kRows] = {};
    add_products<C>(p, queries + own, keys + lane * kStride<C>, width);
    for (int layer = 0; layer < layers.count; ++layer) {
      const auto& of = layers.of[layer];
      __syncthreads();
      load_tile<C>(d_outputs, of.d_o.row(block.batch, block.start, block.head), of.d_o.position_stride,
                   problem.positions - block.start, width);
      load_tile<C>(values, of.v.row(block.batch, start, block.key_head), of.v.position_stride, problem.positions - start,
                   width);
      __syncthreads();
      add_products<C>(ds, d_outputs + own, values + lane * kStride<C>, width);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool seen = start + lane >= first[r] && start + lane <= block.row + r;
      ds[r] = seen ? fast_exp2(at_most_zero(p[r] * scale - normaliser[r])) * (ds[r] - row_sums[r]) : 0.0f;
    }
    add_weighted<C>(sums, ds, keys, weights);
  }
  const float scales[kRows] = {problem.scale, problem.scale, problem.scale, problem.scale};
  store_rows<C>(dq, block.batch, block.row, block.head, problem.positions, width, sums, scales);
}

// Calls body.operator()<C>() for heads of this width, for kernels with `tiles` tiles in shared memory.
template <class Body>
void dispatch_width(int width, int tiles, Body&& body) {
  ECHO_CHECK(width <= 256, "attention: heads of width ", width, " on a GPU, expected at most 256");
  const int64_t bytes = int64_t(shared_bytes<8>(tiles)), available = echo::cuda::properties().shared_bytes_per_block;
  ECHO_CHECK(width <= 128 || bytes <= available, "attention: heads of width ", width, " need ", bytes,
             " bytes of shared memory, this GPU has ", available, "; write device: cpu");
  if (width <= 32) return body.template operator()<1>();
  if (width <= 64) return body.template operator()<2>();
  if (width <= 128) return body.template operator()<4>();
  body.template operator()<8>();
}

// One block per 32 rows of each head. Heads are neighbours, so that those of a group read the same keys at the same time.
template <class T>
dim3 grid(const AttentionProblem<T>& problem, int heads) {
  return dim3(unsigned(problem.batches * heads), blocks_for(problem.positions, kTile));
}
const dim3 kBlock(kWarp, kWarps);

}  // namespace

template <class T>
void forward(Tensor& o, Tensor& lse, const AttentionProblem<T>& problem, const Tensor& v) {
  dispatch_width(problem.width, 3, [&]<int C>() {
    launch(forward_rows<T, C, false>, grid(problem, problem.heads), kBlock, shared_bytes<C>(3), stream(), head_view<T>(o),
           lse.data<float>(), problem, head_view<T>(v));
  });
}

template <class T>
void shared_forward(Tensor& o, const AttentionProblem<T>& problem, const Tensor& lse, const Tensor& v) {
  dispatch_width(problem.width, 3, [&]<int C>() {
    launch(forward_rows<T, C, true>, grid(problem, problem.heads), kBlock, shared_bytes<C>(3), stream(), head_view<T>(o),
           lse.data<float>(), problem, head_view<T>(v));
  });
}

template <class T>
void value_backward(Tensor& dv, const Tensor& d_o, const AttentionProblem<T>& problem, const Tensor& lse) {
  const SharingLayer layer{d_o, Tensor()};
  dispatch_width(problem.width, 3, [&]<int C>() {
    launch(backward_of_keys<T, C, false>, grid(problem, problem.key_heads), kBlock, shared_bytes<C>(3), stream(),
           head_view<T>(Tensor()), head_view<T>(dv), layers_of<T>({&layer, 1}), problem, lse.data<float>(),
           static_cast<const float*>(nullptr));
  });
}

template <class T>
void backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers, const AttentionProblem<T>& problem,
              const Tensor& lse, const Tensor& delta) {
  dispatch_width(problem.width, 4, [&]<int C>() {
    launch(backward_of_keys<T, C, true>, grid(problem, problem.key_heads), kBlock, shared_bytes<C>(4), stream(),
           head_view<T>(dk), head_view<T>(dv), layers_of<T>(layers), problem, lse.data<float>(), delta.data<float>());
    launch(backward_of_queries<T, C>, grid(problem, problem.heads), kBlock, shared_bytes<C>(4), stream(), head_view<T>(dq),
           layers_of<T>(layers), problem, lse.data<float>(), delta.data<float>());
  });
}

template void forward(Tensor&, Tensor&, const AttentionProblem<float>&, const Tensor&);
template void forward(Tensor&, Tensor&, const AttentionProblem<bfloat16>&, const Tensor&);
template void shared_forward(Tensor&, const AttentionProblem<float>&, const Tensor&, const Tensor&);
template void shared_forward(Tensor&, const AttentionProblem<bfloat16>&, const Tensor&, const Tensor&);
template void value_backward(Tensor&, const Tensor&, const AttentionProblem<float>&, const Tensor&);
template void value_backward(Tensor&, const Tensor&, const AttentionProblem<bfloat16>&, const Tensor&);
template void backward(Tensor&, Tensor&, Tensor&, std::span<const SharingLayer>, const AttentionProblem<float>&, const Tensor&,
                       const Tensor&);
template void backward(Tensor&, Tensor&, Tensor&, std::span<const SharingLayer>, const AttentionProblem<bfloat16>&,
                       const Tensor&, const Tensor&);

}  // namespace echo::kernels::cuda::attention::plain
