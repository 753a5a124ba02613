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

template <int W>
constexpr size_t kSharedBytes = tile_bytes<W>(kBlockRows + 2 * kKeys);

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

template <int W, bool kShared>
__global__ void __launch_bounds__(kThreads, 2)
    forward_rows(HeadView<bfloat16> o, float* lse, AttentionProblem<bfloat16> problem, HeadView<bfloat16> v) {
  unsigned char* const q_tile = shared_memory();
  unsigned char* const k_tile = q_tile + tile_bytes<W>(kBlockRows);
  unsigned char* const v_tile = k_tile + tile_bytes<W>(kKeys);
  const int head = int(blockIdx.x), batch = int(blockIdx.y);
  const int key_head = head / (problem.heads / problem.key_heads);
  const int block_row = int(gridDim.z - 1 - blockIdx.z) * kBlockRows;
  const int warp_row = int(threadIdx.x) / kWarp * kWarpRows, row = block_row + warp_row;
  const int positions = problem.positions, lane = lane_number();
  const float scale_log2 = problem.scale * kLog2E;
  const Range keys = column_range<Side::queries, kKeys, kBlockRows>(problem, batch, block_row);
  unsigned char* const own_q = q_tile + tile_bytes<W>(warp_row);

  copy_tile<W, kBlockRows>(q_tile, problem.q, problem, batch, head, block_row);
  if (keys.begin < keys.end) copy_tile<W, kKeys>(k_tile, problem.k, problem, batch, key_head, keys.begin);
  commit_copies();

  RunningRows<W> rows;
  if constexpr (kShared) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = row + 8 * i + lane / 4;
      rows.offset[i] = query < positions ? -lse[problem.statistic(batch, head, query)] / problem.scale : -kInfinity;
    }
  }
#pragma unroll 1
  for (int start = keys.begin; start < keys.end; start += kKeys) {
    wait_copies<0>();
    __syncthreads();  // K is there, and no warp reads the last V
    copy_tile<W, kKeys>(v_tile, v, problem, batch, key_head, opaque(start));
    commit_copies();
    const bool active = sees_any<Side::queries, kKeys, kWarpRows>(positions, row, start);
    float scores[2][kKeys / 8][4];
    if (active) {
      start_from_rows<kKeys>(scores, rows.offset);
      add_products<W, kKeys>(scores, own_q, k_tile);
    }
    wait_copies<0>();
    __syncthreads();  // V is there, and no warp reads this K
    if (start + kKeys < keys.end) {
      const int next = opaque(start) + kKeys;
      copy_tile<W, kKeys>(k_tile, problem.k, problem, batch, key_head, next);
    }
    commit_copies();
    if (active) {
      if (misses_any<Side::queries, kKeys, kWarpRows>(problem, row, start))
        mask<Side::queries, kKeys>(scores, problem, batch, row, start);
      if constexpr (kShared)
        to_probabilities<kKeys>(scores, scale_log2);
      else
        rows.add_scores(scores, scale_log2);
      add_weighted<W, kKeys>(rows.result, scores, v_tile);
    }
  }
  wait_copies<0>();
  __syncthreads();  // the rows' tile is free, also where no column was seen
  if (row >= positions) return;

  float factor[4] = {1, 1, 1, 1};
  if constexpr (!kShared) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float sum = rows.sum[i];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      factor[i] = 1.0f / sum;
      const int query = row + 8 * i + lane / 4;
      if (lane % 4 == 0 && query < positions)
        lse[problem.statistic(batch, head, query)] = logf(sum) - rows.offset[i] * problem.scale;
    }
  }
  store_rows<W>(o, problem, batch, row, head, rows.result, factor, own_q);
}

template <bool kShared>
void launch_forward(Tensor& o, float* lse, const AttentionProblem<bfloat16>& problem, const Tensor& v) {
  const dim3 grid(unsigned(problem.heads), unsigned(problem.batches), blocks_for(problem.positions, kBlockRows));
  const auto run = [&]<int W>() {
    launch(forward_rows<W, kShared>, grid, kThreads, kSharedBytes<W>, stream(), head_view<bfloat16>(o), lse, problem,
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
