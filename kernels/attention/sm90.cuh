#pragma once

#include "kernels/attention/scores.cuh"
#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/matrix.cuh"
#include "kernels/cuda/warpgroup.cuh"

// The pieces of attention on Hopper (bf16; W = 64 or 128 columns, of which the first Dh are not zero): products by warpgroups
// from shared memory, tiles brought by the copy engine. One warp of a block, the producer, asks for tiles; each of the other
// warpgroups owns 64 rows (queries or keys) and walks over the same tiles of N columns. Scores, and what follows from them,
// stay in registers: the accumulators of rows . columns^T are, once rounded to bf16, the left operand of the next product.
// A tile of R rows lies in shared memory as W / 64 panels of R rows of 128 bytes (kernels/cuda/bulk_copy.cuh).
// Sources: Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608 (producer, products that run beside exponentials).
namespace echo::kernels::cuda::attention::sm90 {

using namespace sm80;

inline constexpr int kGroupRows = 64, kGroupWarps = 4, kGroupThreads = kGroupWarps * kWarp;
// Registers that the warpgroups of a block have between them, for one thread of each: every thread starts with the same number,
// a multiple of 8, and a group that claims more than the others have released waits for ever.
constexpr int registers_of_groups(int threads) { return 65536 / threads / 8 * 8 * (threads / kGroupThreads); }

template <int W>
constexpr int tile_bytes(int rows) {
  return rows * 2 * W;
}

// A value that all lanes have, in a way that the compiler knows too: it runs a warpgroup's products one after the other where
// it thinks that lanes may part.
__device__ __forceinline__ int uniform(int value) { return __shfl_sync(kAllLanes, value, 0); }

// Tiles of `rows` positions of a (B, T, count, Dh) tensor of the matrix's shape.
inline CUtensorMap tile_map(const HeadView<bfloat16>& heads, const AttentionProblem<bfloat16>& problem, int count, int rows) {
  return cuda::tile_map(heads.data, {problem.width, count, problem.positions, problem.batches},
                        {heads.head_stride, heads.position_stride, heads.batch_stride}, rows);
}

// The copy of a tile of kRows rows; the barrier learns of tile_bytes<W>(kRows) elsewhere.
template <int W, int kRows>
__device__ __forceinline__ void copy_panels(unsigned char* tile, const CUtensorMap& map, uint64_t* barrier, int head,
                                            int position, int batch) {
#pragma unroll
  for (int panel = 0; panel < W / 64; ++panel)
    copy_tile_async(tile + panel * kRows * 128, map, barrier, panel * 64, head, position, batch);
}

// Places for kSlots tiles that the producer fills and consumers read in turn, tile `count` the place count % kSlots: barrier
// `full` ends a phase when a tile is there, `empty` when every consumer warp has released it.
template <int kSlots>
struct Ring {
  uint64_t* barriers;  // kSlots full, kSlots empty

  static __device__ __forceinline__ int slot(int count) { return int(unsigned(count) % kSlots); }
  __device__ __forceinline__ uint64_t* full(int count) const { return barriers + slot(count); }
  __device__ __forceinline__ void wait_full(int count) const { wait_phase(full(count), int(unsigned(count) / kSlots % 2)); }
  __device__ __forceinline__ void wait_empty(int count) const {
    wait_phase(barriers + kSlots + slot(count), int(unsigned(count) / kSlots % 2 ^ 1));
  }
  // By whole warps, once all lanes have read what they need.
  __device__ __forceinline__ void release(int count) const {
    __syncwarp();
    if (lane_number() == 0) arrive(barriers + kSlots + slot(count));
  }
  __device__ __forceinline__ void start(int full_arrivals, int consumer_warps) const {
    for (int i = 0; i < kSlots; ++i) {
      start_barrier(barriers + i, full_arrivals);
      start_barrier(barriers + kSlots + i, consumer_warps);
    }
  }
};

// ---- products of a warpgroup ---------------------------------------------------------------------------------------------
// scores = rows . columns^T over W, or += where `accumulate`: `rows` is the warpgroup's first row in a tile of kRows rows.
template <int W, int kRows, int N>
__device__ __forceinline__ void multiply_tiles(float (&scores)[N / 8][4], const unsigned char* rows,
                                               const unsigned char* columns, bool accumulate) {
  const uint64_t left = shared_operand(rows), right = shared_operand(columns);
#pragma unroll
  for (int k = 0; k < W / 16; ++k)
    multiply_shared<false, false>(scores, left + (k / 4 * kRows * 128 + k % 4 * 32) / 16,
                                  right + (k / 4 * N * 128 + k % 4 * 32) / 16, accumulate || k > 0);
}

// result += weights . columns: weights as pack_weights leaves them, the columns' rows of W elements.
template <int W, int N>
__device__ __forceinline__ void multiply_weights(float (&result)[W / 8][4], const uint32_t (&weights)[N / 16][4],
                                                 const unsigned char* columns) {
  const uint64_t right = shared_operand(columns, W == 64 ? 16 : N * 128);
#pragma unroll
  for (int k = 0; k < N / 16; ++k) multiply_registers(result, weights[k], right + k * 16 * 128 / 16);
}

// Scores rounded to bf16 as a left operand.
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
// Exponents of 2 below this are exact to 1 / 16. Larger ones (in magnitude) may leave a probability far above 1, which then
// needs care; the test is made once for many scores, as what it saves is a tenth of a kernel's instructions.
constexpr float kLargeExponent = 1 << 20;
__device__ __forceinline__ bool is_large(float exponent) { return !(fabsf(exponent) < kLargeExponent); }

// exp2(scale_log2 score - offset), offset = lse / ln 2 of the lane's two rows, or of each column, from shared memory. kLarge:
// some offset may be large.
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
// Stores factor[i] * sums of the warp's rows 8 i + ..., i = 0, 1, through its 16 rows of a tile of kRows rows that nobody
// reads.
template <int W, int kRows>
__device__ __forceinline__ void store_rows(const HeadView<bfloat16>& to, int batch, int row, int head, int positions, int width,
                                           const float (&sums)[W / 8][4], const float (&factor)[2], unsigned char* tile) {
  const int lane = opaque(lane_number());
  __syncwarp();
  const auto place = [&](int r, int chunk) { return tile + chunk / 8 * kRows * 128 + r * 128 + ((chunk % 8 ^ (r & 7)) << 4); };
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < W / 8; ++n)
      *reinterpret_cast<uint32_t*>(place(8 * half + lane / 4, n) + lane % 4 * 4) =
          pack_bf16(sums[n][2 * half] * factor[half], sums[n][2 * half + 1] * factor[half]);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < W / 16; ++i) {
    const int r = (i * kWarp + lane) / (W / 8), chunk = lane % (W / 8);
    if (row + r < positions && chunk * 8 < width)
      *reinterpret_cast<uint4*>(to.row(batch, row + r, head) + chunk * 8) = *reinterpret_cast<const uint4*>(place(r, chunk));
  }
}

}  // namespace echo::kernels::cuda::attention::sm90
