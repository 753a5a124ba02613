#pragma once

#include "kernels/attention/scores.cuh"
#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/matrix.cuh"
#include "kernels/cuda/warpgroup.cuh"

// Common code of attention's kernels on Hopper (bf16; W = 64 or 128 columns, of which the first Dh are not zero). The warps of
// a block have different roles, as in FlashAttention 3. One warp, the producer, makes the copy engine (TMA) load tiles into
// shared memory. The other warpgroups, the consumers, multiply them (wgmma). Each consumer owns 64 rows (queries or keys) and
// processes the same tiles of N columns. Scores and values computed from them stay in registers: the accumulators of rows .
// columns^T, rounded to bf16, are the left operand of the next product.
// A tile of R rows is stored in shared memory as W / 64 panels of R rows of 128 bytes (kernels/cuda/bulk_copy.cuh).
// Sources: Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608 (warp specialisation; products overlap exponentials).
namespace echo::kernels::cuda::attention::sm90 {

// From kernels/attention/scores.cuh.
using sm80::column_range;
using sm80::kInfinity;
using sm80::lane_number;
using sm80::mask;
using sm80::misses_any;
using sm80::opaque;
using sm80::Range;
using sm80::sees_any;
using sm80::Side;

inline constexpr int kGroupRows = 64, kGroupWarps = 4, kGroupThreads = kGroupWarps * kWarp;  // of a warpgroup
// The most registers per thread that the warpgroups of a block may have in total, for a block of `threads` threads. Every
// thread starts with the same number, a multiple of 8. A warpgroup that claims more than the others have released waits
// forever.
constexpr int registers_of_groups(int threads) { return 65536 / threads / 8 * 8 * (threads / kGroupThreads); }

template <int W>
constexpr int tile_bytes(int rows) {
  return rows * 2 * W;
}

// Makes a warp-uniform value provably uniform. Otherwise ptxas assumes that lanes may diverge, and serialises wgmma.
__device__ __forceinline__ int uniform(int value) { return __shfl_sync(kAllLanes, value, 0); }

// The tensor map of a (B, T, heads, Dh) tensor. copy_panels() uses it to load tiles of `rows` positions (at most 256) of one
// head. B, T and Dh are those of `problem`.
inline CUtensorMap tile_map(const HeadView<bfloat16>& view, const AttentionProblem<bfloat16>& problem, int heads, int rows) {
  return cuda::tile_map(view.data, {problem.width, heads, problem.positions, problem.batches},
                        {view.head_stride, view.position_stride, view.batch_stride}, rows);
}

// Starts the load of a tile: positions `position` to `position` + kRows - 1 of one head, with zeros beyond the last position
// and the last column. One thread calls it, after it has announced the tile_bytes<W>(kRows) bytes to the barrier
// (arrive_expecting()). `tile`: shared memory, aligned to 1024 bytes.
template <int W, int kRows>
__device__ __forceinline__ void copy_panels(unsigned char* tile, const CUtensorMap& map, uint64_t* barrier, int head,
                                            int position, int batch) {
#pragma unroll
  for (int panel = 0; panel < W / 64; ++panel)
    copy_tile_async(tile + panel * kRows * 128, map, barrier, panel * 64, head, position, batch);
}

// The barriers of a circular buffer of kStages tiles between the producer and the consumers (CUTLASS: PipelineTmaAsync), in
// shared memory. Tiles are numbered from 0 over the life of the block. Tile i uses stage i % kStages. The producer waits until
// the stage is empty, loads, and arrives at the full barrier. Consumers wait until it is full, read, and release it.
template <int kStages>
struct Pipeline {
  uint64_t full_barriers[kStages];   // a phase ends when a tile has arrived
  uint64_t empty_barriers[kStages];  // a phase ends when every consumer warp has released the tile

  // One thread calls it, before publish_barriers(). `full_arrivals`: arrivals that make a tile complete.
  __device__ __forceinline__ void start(int full_arrivals, int consumer_warps) {
    for (int i = 0; i < kStages; ++i) {
      start_barrier(full_barriers + i, full_arrivals);
      start_barrier(empty_barriers + i, consumer_warps);
    }
  }
  static __device__ __forceinline__ int stage(int tile) { return int(unsigned(tile) % kStages); }
  __device__ __forceinline__ uint64_t* full(int tile) { return full_barriers + stage(tile); }
  __device__ __forceinline__ void wait_full(int tile) { wait_phase(full(tile), int(unsigned(tile) / kStages % 2)); }
  __device__ __forceinline__ void wait_empty(int tile) {
    wait_phase(empty_barriers + stage(tile), int(unsigned(tile) / kStages % 2 ^ 1));
  }
  // Whole warps call it, once per tile, after the last read of any lane.
  __device__ __forceinline__ void release(int tile) {
    __syncwarp();
    if (lane_number() == 0) arrive(empty_barriers + stage(tile));
  }
};

// ---- products of a warpgroup ---------------------------------------------------------------------------------------------
// Starts scores = rows . columns^T over W columns, or += if `accumulate`. Call it between start_products() and
// commit_products(). rows: the warpgroup's first row in a tile of kRows rows in shared memory. columns: a tile of N rows.
template <int W, int kRows, int N>
__device__ __forceinline__ void multiply_tiles(float (&scores)[N / 8][4], const unsigned char* rows,
                                               const unsigned char* columns, bool accumulate) {
  const uint64_t left = shared_operand(rows), right = shared_operand(columns);
#pragma unroll
  for (int k = 0; k < W / 16; ++k)
    multiply_shared<false, false>(scores, left + (k / 4 * kRows * 128 + k % 4 * 32) / 16,
                                  right + (k / 4 * N * 128 + k % 4 * 32) / 16, accumulate || k > 0);
}

// Starts result += weights . columns: (64, N) . (N, W). Call it between start_products() and commit_products(). weights: from
// pack_weights(). columns: a tile of N rows in shared memory.
template <int W, int N>
__device__ __forceinline__ void multiply_weights(float (&result)[W / 8][4], const uint32_t (&weights)[N / 16][4],
                                                 const unsigned char* columns) {
  const uint64_t right = shared_operand(columns, W == 64 ? 16 : N * 128);
#pragma unroll
  for (int k = 0; k < N / 16; ++k) multiply_registers(result, weights[k], right + k * 16 * 128 / 16);
}

// weights = scores, rounded to bf16, in the layout of the left operand of multiply_weights().
template <int N>
__device__ __forceinline__ void pack_weights(uint32_t (&weights)[N / 16][4], const float (&scores)[N / 8][4]) {
#pragma unroll
  for (int k = 0; k < N / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[k][i] = pack_bf16(scores[2 * k + i / 2][i % 2 * 2], scores[2 * k + i / 2][i % 2 * 2 + 1]);
  }
}

// ---- probabilities -------------------------------------------------------------------------------------------------------
// Exponents of 2 below this are exact to 1 / 16. Rounding of exponents of larger magnitude may make a probability far greater
// than 1, so these are clamped to 0. The test is done once for many scores, because one test per score would cost a tenth of a
// kernel's instructions.
constexpr float kLargeExponent = 1 << 20;
__device__ __forceinline__ bool is_large(float exponent) { return !(fabsf(exponent) < kLargeExponent); }

// In place: score -> exp2(scale_log2 score - offset), the probability, where offset = lse / ln 2. kLarge: an offset may be
// large. of_rows: `offsets` are those of the lane's two rows. of_columns: those of the N columns, in shared memory.
template <int N, bool kLarge>
__device__ __forceinline__ void to_probabilities_of_rows(float (&scores)[N / 8][4], const float (&offsets)[2],
                                                         float scale_log2) {
#pragma unroll
  for (int n = 0; n < N / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float exponent = scores[n][i] * scale_log2 - offsets[i / 2];
      scores[n][i] = fast_exp2(kLarge ? at_most_zero(exponent) : exponent);
    }
  }
}
template <int N, bool kLarge>
__device__ __forceinline__ void to_probabilities_of_columns(float (&scores)[N / 8][4], const float* offsets, float scale_log2) {
#pragma unroll
  for (int n = 0; n < N / 8; ++n) {
    const float2 pair = *reinterpret_cast<const float2*>(offsets + 8 * n + lane_number() % 4 * 2);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float exponent = scores[n][i] * scale_log2 - (i % 2 == 0 ? pair.x : pair.y);
      scores[n][i] = fast_exp2(kLarge ? at_most_zero(exponent) : exponent);
    }
  }
}

// ---- results -------------------------------------------------------------------------------------------------------------
// Stores a warp's 16 rows of a result as bf16 in a (B, T, H, Dh) tensor: positions row to row + 15 of one head, each row
// multiplied by a factor. Whole warps call it.
//   to        rows aligned to 16 bytes
//   row       the warp's first position. Positions and columns beyond those of `problem` are not written.
//   sums      the lane's accumulators; entries 0 and 1 belong to row lane / 4, entries 2 and 3 to row 8 + lane / 4
//   factor    of these two rows
//   tile      the warp's 16 rows of a tile of kRows rows in shared memory. They are overwritten: results pass through them, so
//   that
//             global memory is written 16 bytes at a time. Nothing else may read or write them until the call returns. Before
//             the copy engine writes them again, the caller calls publish_shared_writes().
template <int W, int kRows>
__device__ __forceinline__ void store_rows(const HeadView<bfloat16>& to, const AttentionProblem<bfloat16>& problem, int batch,
                                           int row, int head, const float (&sums)[W / 8][4], const float (&factor)[2],
                                           unsigned char* tile) {
  const int lane = opaque(lane_number());
  __syncwarp();
  const auto chunk_at = [&](int r, int chunk) {
    return tile + chunk / 8 * kRows * 128 + r * 128 + ((chunk % 8 ^ (r & 7)) << 4);
  };
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < W / 8; ++n)
      *reinterpret_cast<uint32_t*>(chunk_at(8 * half + lane / 4, n) + lane % 4 * 4) =
          pack_bf16(sums[n][2 * half] * factor[half], sums[n][2 * half + 1] * factor[half]);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < W / 16; ++i) {
    const int r = (i * kWarp + lane) / (W / 8), chunk = lane % (W / 8);
    if (row + r < problem.positions && chunk * 8 < problem.width)
      *reinterpret_cast<uint4*>(to.row(batch, row + r, head) + chunk * 8) = *reinterpret_cast<const uint4*>(chunk_at(r, chunk));
  }
}

}  // namespace echo::kernels::cuda::attention::sm90
