// Attention's forward passes on tensor cores: a block owns 128 queries of one head (kernels/attention/sm80.cuh) and walks over
// tiles of 64 keys. K of the next tile arrives while P V is formed, V of this one while Q K^T is. The blocks that see most keys
// start first, and the heads of a group are neighbours, so that they find K and V in the second-level cache.
// Scores start from -m, m the row's maximum so far, instead of 0: the product leaves s - m, and one multiplication and one
// exponential of 2 make the probability. m may be stale by up to 2^8 (bf16 keeps its precision, the sum is f32): only when a
// score exceeds that is the maximum taken over the four lanes of a row and what there is rescaled, which after the first tiles
// is rare.
// A follower starts from -lse / scale: no maximum, no sum, no division.
// Shared memory: Q 256 W, K and V 128 W bytes each: 32 KiB (W = 64), 64 KiB (W = 128). Bytes from global memory per block: Q
// and O once, K and V of the keys that are seen once.
#include "kernels/attention/sm80.cuh"

namespace echo::kernels::cuda::attention::sm80 {
namespace {

constexpr int kKeys = 64;
constexpr float kStaleness = 8;  // exponents of 2

// A block's shared memory.
template <int W>
struct SharedTiles {
  unsigned char q[tile_bytes<W>(kBlockRows)], k[tile_bytes<W>(kKeys)], v[tile_bytes<W>(kKeys)];
};

// What a lane keeps of its rows 8 i + lane / 4 of the warp's 32, i = 0..3.
template <int W>
struct RunningRows {
  float offset[4] = {};  // minus the maximum so far
  float sum[4] = {};     // over this lane's columns only
  unsigned started = 0;  // bit i: row i has seen a key
  float result[2][W / 8][4] = {};

  // Probabilities relative to the maximum so far, in place of the scores.
  __device__ __forceinline__ void add_scores(float (&scores)[2][kKeys / 8][4], float scale_log2) {
    float top[4] = {-kInfinity, -kInfinity, -kInfinity, -kInfinity};
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) top[2 * m + i / 2] = fmaxf(top[2 * m + i / 2], scores[m][n][i]);
      }
    }
    const float highest = fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3]));
    if (__any_sync(kAllLanes, started != 15u || highest * scale_log2 > kStaleness)) rescale(scores, top, scale_log2);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          scores[m][n][i] = fast_exp2(scores[m][n][i] * scale_log2);
          sum[2 * m + i / 2] += scores[m][n][i];
        }
      }
    }
  }

  __device__ __forceinline__ void rescale(float (&scores)[2][kKeys / 8][4], float (&top)[4], float scale_log2) {
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      top[row] = fmaxf(top[row], __shfl_xor_sync(kAllLanes, top[row], 1));
      top[row] = fmaxf(top[row], __shfl_xor_sync(kAllLanes, top[row], 2));
      const bool had = (started >> row & 1u) != 0, has = top[row] > -kInfinity;
      const float rise = had ? fmaxf(top[row], 0.0f) : has ? top[row] : 0.0f;
      const float factor = had ? fast_exp2(-rise * scale_log2) : 1.0f;
      if (has) started |= 1u << row;
      offset[row] -= rise;
      sum[row] *= factor;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        scores[row / 2][n][row % 2 * 2] -= rise;
        scores[row / 2][n][row % 2 * 2 + 1] -= rise;
      }
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
        result[row / 2][n][row % 2 * 2] *= factor;
        result[row / 2][n][row % 2 * 2 + 1] *= factor;
      }
    }
  }
};

// A block's queries, a warp's part of them, and what the warp does. kShared: lse is known.
template <int W, bool kShared>
struct QueryBlock {
  const AttentionProblem<bfloat16>& problem;
  const HeadView<bfloat16>& v;
  SharedTiles<W>& shared;
  const int head, key_head, batch, lane;
  const int block_row;
  const int warp_row, row;  // the warp's first query, in the block and of all
  const Range keys;         // that the block's queries see

  __device__ __forceinline__ QueryBlock(const AttentionProblem<bfloat16>& kernel_problem, const HeadView<bfloat16>& values,
                                        SharedTiles<W>& memory)
      : problem(kernel_problem),
        v(values),
        shared(memory),
        head(int(blockIdx.x)),
        key_head(head / (problem.heads / problem.key_heads)),
        batch(int(blockIdx.y)),
        lane(lane_number()),
        block_row(int(gridDim.z - 1 - blockIdx.z) * kBlockRows),
        warp_row(int(threadIdx.x) / kWarp * kWarpRows),
        row(block_row + warp_row),
        keys(column_range<Side::queries, kKeys, kBlockRows>(problem, batch, block_row)) {}

  __device__ __forceinline__ unsigned char* own_queries() const { return shared.q + tile_bytes<W>(warp_row); }
  __device__ __forceinline__ bool sees_any_of(int start) const {
    return sees_any<Side::queries, kKeys, kWarpRows>(problem.positions, row, start);
  }

  // ---- load tiles --------------------------------------------------------------------------------------------------------
  __device__ __forceinline__ void load_queries() const {
    copy_tile<W, kBlockRows>(shared.q, problem.q, problem, batch, head, block_row);
  }
  __device__ __forceinline__ void load_keys(int start) const {
    copy_tile<W, kKeys>(shared.k, problem.k, problem, batch, key_head, start);
  }
  __device__ __forceinline__ void load_values(int start) const {
    copy_tile<W, kKeys>(shared.v, v, problem, batch, key_head, start);
  }

  // ---- statistics --------------------------------------------------------------------------------------------------------
  // Of the lane's rows of a follower: what their scores start from.
  __device__ __forceinline__ void load_offsets(RunningRows<W>& rows, const float* lse) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = row + 8 * i + lane / 4;
      rows.offset[i] = query < problem.positions ? -lse[problem.statistic(batch, head, query)] / problem.scale : -kInfinity;
    }
  }
  // Of the lane's rows of a leader: stores lse; `factor` is what makes probabilities of their sums.
  __device__ __forceinline__ void store_lse(float* lse, float (&factor)[4], const RunningRows<W>& rows) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float sum = rows.sum[i];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      factor[i] = 1.0f / sum;
      const int query = row + 8 * i + lane / 4;
      if (lane % 4 == 0 && query < problem.positions)
        lse[problem.statistic(batch, head, query)] = logf(sum) - rows.offset[i] * problem.scale;
    }
  }

  // ---- products of a tile ------------------------------------------------------------------------------------------------
  __device__ __forceinline__ void make_scores(float (&scores)[2][kKeys / 8][4], const RunningRows<W>& rows) const {
    start_from_rows<kKeys>(scores, rows.offset);
    add_products<W, kKeys>(scores, own_queries(), shared.k);
  }
  // Scores of the keys from `start` on -> P, and result += P V.
  __device__ __forceinline__ void add_scores(RunningRows<W>& rows, float (&scores)[2][kKeys / 8][4], int start,
                                             float scale_log2) const {
    if (misses_any<Side::queries, kKeys, kWarpRows>(problem, row, start))
      mask<Side::queries, kKeys>(scores, problem, batch, row, start);
    if constexpr (kShared)
      to_probabilities<kKeys>(scores, scale_log2);
    else
      rows.add_scores(scores, scale_log2);
    add_weighted<W, kKeys>(rows.result, scores, shared.v);
  }

  // ---- store -------------------------------------------------------------------------------------------------------------
  // Through the warp's rows of Q's tile, which must be free.
  __device__ __forceinline__ void store(const HeadView<bfloat16>& o, float* lse, const RunningRows<W>& rows) const {
    float factor[4] = {1, 1, 1, 1};
    if constexpr (!kShared) store_lse(lse, factor, rows);
    store_rows<W>(o, problem, batch, row, head, rows.result, factor, own_queries());
  }
};

// lse (B, H, T): a leader writes it, a follower (kShared) reads it.
template <int W, bool kShared>
__global__ void __launch_bounds__(kThreads, 2)
    forward_rows(HeadView<bfloat16> o, float* lse, AttentionProblem<bfloat16> problem, HeadView<bfloat16> v) {
  const QueryBlock<W, kShared> block(problem, v, *shared_memory<SharedTiles<W>>());
  const float scale_log2 = problem.scale * kLog2E;
  block.load_queries();
  if (block.keys.begin < block.keys.end) block.load_keys(block.keys.begin);
  commit_copies();
  RunningRows<W> rows;
  if constexpr (kShared) block.load_offsets(rows, lse);
#pragma unroll 1
  for (int start = block.keys.begin; start < block.keys.end; start += kKeys) {
    wait_copies<0>();
    __syncthreads();  // K is there, and no warp reads the last V
    block.load_values(opaque(start));
    commit_copies();
    const bool active = block.sees_any_of(start);
    float scores[2][kKeys / 8][4];
    if (active) block.make_scores(scores, rows);
    wait_copies<0>();
    __syncthreads();  // V is there, and no warp reads this K
    if (start + kKeys < block.keys.end) block.load_keys(opaque(start) + kKeys);
    commit_copies();
    if (active) block.add_scores(rows, scores, start, scale_log2);
  }
  wait_copies<0>();
  __syncthreads();  // Q's tile is free, also where no key was seen
  if (block.row < problem.positions) block.store(o, lse, rows);
}

template <bool kShared>
void launch_forward(Tensor& o, float* lse, const AttentionProblem<bfloat16>& problem, const Tensor& v) {
  const dim3 grid(unsigned(problem.heads), unsigned(problem.batches), blocks_for(problem.positions, kBlockRows));
  const auto run = [&]<int W>() {
    launch(forward_rows<W, kShared>, grid, kThreads, sizeof(SharedTiles<W>), stream(), head_view<bfloat16>(o), lse, problem,
           head_view<bfloat16>(v));
  };
  problem.width <= 64 ? run.template operator()<64>() : run.template operator()<128>();
}

}  // namespace

void forward(Tensor& o, Tensor& lse, const AttentionProblem<bfloat16>& problem, const Tensor& v) {
  launch_forward<false>(o, lse.data<float>(), problem, v);
}

void shared_forward(Tensor& o, const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& v) {
  launch_forward<true>(o, lse.data<float>(), problem, v);
}

}  // namespace echo::kernels::cuda::attention::sm80
