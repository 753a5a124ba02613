#pragma once

#include "kernels/attention/partials.cuh"
#include "kernels/cuda/matrix.cuh"

// The pieces of attention on tensor cores (bf16; W = 64 or 128 columns, of which the first Dh are not zero). A block of 4 warps
// owns 128 rows of one head, queries or keys; a warp owns 32 of them, so that each fragment of a column tile that it reads from
// shared memory serves two products. It walks over tiles of N columns (keys, or queries). Scores, and what follows from them,
// stay in registers: the accumulators of rows . columns^T are, once rounded to bf16, the left operand of the next product.
// Tiles lie in shared memory row by row (2 W bytes); the 16-byte chunk c of row r is at place c ^ (r % 8), so that the eight
// rows of an 8 x 8 matrix meet all banks. Sources: Dao 2023, arXiv:2307.08691; fragments: kernels/cuda/matrix.cuh.
// Each kernel has a struct for what its blocks know and do, sorted by roles: load tiles, statistics, products, store. Registers
// are scarce, and `make cuda-report` shows when a change costs some. Three things did: one struct for all arguments of a
// kernel, a Tile passed by value, and numbers computed from threadIdx in each function anew instead of once.
namespace echo::kernels::cuda::attention::sm80 {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarp;
inline constexpr int kWarpRows = 32;
inline constexpr int kBlockRows = kWarps * kWarpRows;

template <int W>
constexpr int tile_bytes(int rows) {
  return rows * 2 * W;
}
template <int W>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
  return row * 2 * W + ((chunk ^ (row & 7)) << 4);
}
// Where the chunk that is 2 i further lies, from the offset of chunk 0 or 1.
__device__ __forceinline__ int chunks_on(int offset, int i) { return (offset ^ (i % 4 << 5)) + (i / 4 << 7); }

// Starts the copy of kRows positions of a head, from `start` on, by a block of kBlockThreads. Positions that do not exist
// become zero, and so do columns from Dh on.
template <int W, int kRows, int kBlockThreads = kThreads>
__device__ __forceinline__ void copy_tile(unsigned char* tile, const HeadView<bfloat16>& heads,
                                          const AttentionProblem<bfloat16>& problem, int batch, int head, int start) {
  constexpr int kChunks = W / 8, kRowsAtOnce = kBlockThreads / kChunks;
  const bfloat16* const first_row = heads.row(batch, start, head);
  const int thread = opaque(int(threadIdx.x)), row = thread / kChunks, chunk = thread % kChunks;
  const bfloat16* from = first_row + row * heads.position_stride + chunk * 8;
  unsigned char* const to = tile + tile_offset<W>(row, chunk);
  const int left = chunk * 8 < problem.width ? problem.positions - start - row : 0;
  static_assert(kRowsAtOnce % 8 == 0 && kRows % kRowsAtOnce == 0, "the place of a chunk repeats every 8 rows");
#pragma unroll
  for (int i = 0; i < kRows; i += kRowsAtOnce) {
    copy_async(to + i * 2 * W, from, i < left);
    from += kRowsAtOnce * heads.position_stride;
  }
}

// ---- products ------------------------------------------------------------------------------------------------------------
// sums[m][n] (16 x 8 each) += rows . columns^T over Dh, for the warp's 32 rows and N columns.
template <int W, int N>
__device__ __forceinline__ void add_products(float (&sums)[2][N / 8][4], const unsigned char* rows,
                                             const unsigned char* columns) {
  const int lane = lane_number();
  const int row_offset = opaque(tile_offset<W>(lane % 16, lane / 16));
  const int column_offset = opaque(tile_offset<W>(lane / 16 * 8 + lane % 8, lane / 8 % 2));
#pragma unroll
  for (int k = 0; k < W / 16; ++k) {
    uint32_t a[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m) load_matrices(a[m], rows + m * 32 * W + chunks_on(row_offset, k));
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      uint32_t b[4];
      load_matrices(b, columns + n * 32 * W + chunks_on(column_offset, k));
      const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        multiply_bf16(sums[m][2 * n], a[m], left);
        multiply_bf16(sums[m][2 * n + 1], a[m], right);
      }
    }
  }
}

// What sums start from: a number for each of the lane's four rows, or one for each column, from shared memory.
template <int N>
__device__ __forceinline__ void start_from_rows(float (&sums)[2][N / 8][4], const float (&of_rows)[4]) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = of_rows[2 * m + i / 2];
    }
  }
}
template <int N>
__device__ __forceinline__ void start_from_columns(float (&sums)[2][N / 8][4], const float* of_columns) {
#pragma unroll
  for (int n = 0; n < N / 8; ++n) {
    const float2 pair = *reinterpret_cast<const float2*>(of_columns + 8 * n + lane_number() % 4 * 2);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      sums[m][n][0] = sums[m][n][2] = pair.x;
      sums[m][n][1] = sums[m][n][3] = pair.y;
    }
  }
}

// sums += weights . columns: weights as add_products leaves them, rounded to bf16; the columns' rows of W elements.
template <int W, int N>
__device__ __forceinline__ void add_weighted(float (&sums)[2][W / 8][4], const float (&weights)[2][N / 8][4],
                                             const unsigned char* columns) {
  const int lane = lane_number();
  const int offset = opaque(tile_offset<W>(lane % 16, lane / 16));
#pragma unroll
  for (int k = 0; k < N / 16; ++k) {
    uint32_t a[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a[m][i] = pack_bf16(weights[m][2 * k + i / 2][i % 2 * 2], weights[m][2 * k + i / 2][i % 2 * 2 + 1]);
    }
#pragma unroll
    for (int n = 0; n < W / 16; ++n) {
      uint32_t b[4];
      load_matrices_transposed(b, columns + k * 32 * W + chunks_on(offset, n));
      const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        multiply_bf16(sums[m][2 * n], a[m], left);
        multiply_bf16(sums[m][2 * n + 1], a[m], right);
      }
    }
  }
}

// Scores less the row's log-sum-exp / scale become probabilities.
template <int N>
__device__ __forceinline__ void to_probabilities(float (&scores)[2][N / 8][4], float scale_log2) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[m][n][i] = fast_exp2(at_most_zero(scores[m][n][i]) * scale_log2);
    }
  }
}

// ---- blocks and tiles -----------------------------------------------------------------------------------------------------
// What a block of keys is and does: grid (Hkv * splits, B, T / 128). The first keys, which most queries see, start first.
struct KeyBlock {
  __device__ __forceinline__ explicit KeyBlock(const AttentionProblem<bfloat16>& problem)
      : splits(int(gridDim.x) / problem.key_heads),
        key_head(int(blockIdx.x) / splits),
        split(int(blockIdx.x) % splits),
        first_head((key_head * splits + split) * (problem.heads / problem.key_heads / splits)),
        end_head(first_head + problem.heads / problem.key_heads / splits) {}
  int splits, key_head, split, first_head, end_head;
};
inline dim3 key_grid(const AttentionProblem<bfloat16>& problem, int splits) {
  return dim3(unsigned(problem.key_heads * splits), unsigned(problem.batches), blocks_for(problem.positions, kBlockRows));
}

// The columns of a tile: those of one head from `start` on.
struct Tile {
  int head, start;
};
// The tiles of N columns that a block's rows see, head after head.
template <int N>
struct SeenTiles {
  int first_head, end_head;
  Range columns;

  __device__ __forceinline__ Tile first() const { return {columns.begin < columns.end ? first_head : end_head, columns.begin}; }
  __device__ __forceinline__ Tile after(const Tile& tile) const {
    const bool is_last = tile.start + N >= columns.end;
    return {is_last ? tile.head + 1 : tile.head, is_last ? columns.begin : tile.start + N};
  }
  __device__ __forceinline__ bool has(const Tile& tile) const { return tile.head < end_head; }
};

// ---- results -------------------------------------------------------------------------------------------------------------
// Stores factor[i] * sums of the warp's rows 8 i.., through its own 32 rows of a tile that is free.
template <int W>
__device__ __forceinline__ void store_rows(const HeadView<bfloat16>& to, const AttentionProblem<bfloat16>& problem, int batch,
                                           int row, int head, const float (&sums)[2][W / 8][4], const float (&factor)[4],
                                           unsigned char* tile) {
  constexpr int kChunks = W / 8;
  const int lane = opaque(lane_number());
  __syncwarp();
#pragma unroll
  for (int half = 0; half < 4; ++half) {
#pragma unroll
    for (int n = 0; n < kChunks; ++n) {
      const float(&values)[4] = sums[half / 2][n];
      *reinterpret_cast<uint32_t*>(tile + tile_offset<W>(8 * half + lane / 4, n) + lane % 4 * 4) =
          pack_bf16(values[half % 2 * 2] * factor[half], values[half % 2 * 2 + 1] * factor[half]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    const int r = (i * kWarp + lane) / kChunks, chunk = lane % kChunks;
    if (row + r >= problem.positions || chunk * 8 >= problem.width) continue;
    *reinterpret_cast<uint4*>(to.row(batch, row + r, head) + chunk * 8) =
        *reinterpret_cast<const uint4*>(tile + tile_offset<W>(r, chunk));
  }
}

}  // namespace echo::kernels::cuda::attention::sm80
