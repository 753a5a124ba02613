#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/matrix.cuh"

// The bf16 product of up to 16 rows with a matrix that is read once, fused with the operations before and after it in a
// generation step. Nearly all bytes moved are those of W. So speed depends on how many loads of W are in flight, and on having
// no other kernel between two products.
//
// A block of 8 warps owns kTiles * 8 rows of W (columns of the product). Its warps take turns along K. At the end their sums
// are added in shared memory, in order. W is the right operand of mma.m16n8k16 and x the left one. The instruction's k may be
// any permutation of K that both operands share. So a lane loads 16 bytes (8 elements of a row, the words of two instructions)
// of each, directly into registers. In flight: 8 loads of W per lane, which is 64 KiB in the two blocks of a multiprocessor. x
// comes from the L1 and L2 caches, M / (8 kTiles) of W's bytes.
// With kNormed the rows are RMSNorm(x): x is multiplied by the norm's weight when it is loaded, and the sums by the row's 1 /
// rms. Each block computes the sum of squares itself, because it reads all of x anyway.
// An epilogue defines which columns the tiles of a block have. It may load what it needs before the product is complete, and it
// stores the result. With kPairs it gets the results of both tiles together.
// Shared memory: 4 KiB per tile, plus 512 bytes.
namespace echo::kernels::cuda::small {

inline constexpr int kMaxRows = 16;
inline constexpr int kWarps = 8, kThreads = kWarps * kWarp;
inline constexpr int kTileColumns = 8;    // columns of one instruction
inline constexpr int kChunk = 32;         // elements of K in one load of a warp (16 bytes per lane), with 4 lanes per row
inline constexpr int kChunksPerTurn = 2;  // one cache line of each row of W
inline constexpr int kLoads = 8;          // loads of W in flight

struct Product {
  const bfloat16 *x, *weight;
  const bfloat16* norm;      // (K), or null
  int rows, columns, depth;  // M, N, K
  int64_t x_stride, weight_stride;
  float eps;
};

__device__ __forceinline__ uint4 load_or_zero(const bfloat16* row, int k, int depth, bool wanted) {
  // An ordinary load, not one through the read-only cache: the kernel that writes x may still be running when this kernel
  // starts.
  return wanted && k < depth ? *reinterpret_cast<const uint4*>(row + k) : make_uint4(0, 0, 0, 0);
}
__device__ __forceinline__ uint4 stream_or_zero(const bfloat16* row, int k, int depth) {
  return k < depth ? __ldcs(reinterpret_cast<const uint4*>(row + k)) : make_uint4(0, 0, 0, 0);
}

// 8 elements times those of the norm's weight. Adds the squares of the elements to `squares`.
__device__ __forceinline__ uint4 normed(const uint4& x, const uint4& norm, float& squares) {
  float values[8], weights[8];
  unpack(values, x);
  unpack(weights, norm);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    squares += values[i] * values[i];
    values[i] *= weights[i];
  }
  return pack(values);
}

// The warp's turns along K. Adds its part of the product to `sums`, in the layout of the instruction's results. With kNormed it
// adds the squares of x to squares[0] (rows 0 to 7) and squares[1] (rows 8 to 15). `weight`: for each tile, the row of W that
// the lane reads. kUpper: x has rows 8 to 15.
template <int kTiles, bool kUpper, bool kNormed>
__device__ __forceinline__ void multiply_along_depth(float (&sums)[kTiles][2][4], float (&squares)[2], const Product& a,
                                                     const bfloat16* const (&weight)[kTiles]) {
  constexpr int kChunks = kLoads / kTiles, kTurns = kChunks / kChunksPerTurn, kTurn = kWarps * kChunksPerTurn * kChunk;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, group = lane / 4, member = lane % 4;
  const bool has_lower = group < a.rows, has_upper = kUpper && group + 8 < a.rows;
  const bfloat16* const lower = a.x + (has_lower ? group : 0) * a.x_stride;
  const bfloat16* const upper = a.x + (has_upper ? group + 8 : 0) * a.x_stride;
  for (int start = warp * kChunksPerTurn * kChunk; start < a.depth; start += kTurns * kTurn) {
    uint4 w[kChunks][kTiles], x[kChunks][2], norm[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int k = start + c / kChunksPerTurn * kTurn + c % kChunksPerTurn * kChunk + member * 8;
#pragma unroll
      for (int t = 0; t < kTiles; ++t) w[c][t] = stream_or_zero(weight[t], k, a.depth);
      x[c][0] = load_or_zero(lower, k, a.depth, has_lower);
      if constexpr (kUpper) x[c][1] = load_or_zero(upper, k, a.depth, has_upper);
      if constexpr (kNormed) norm[c] = load_or_zero(a.norm, k, a.depth, true);
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if constexpr (kNormed) {
        x[c][0] = normed(x[c][0], norm[c], squares[0]);
        if constexpr (kUpper) x[c][1] = normed(x[c][1], norm[c], squares[1]);
      }
      const uint4 low = x[c][0], high = kUpper ? x[c][1] : make_uint4(0, 0, 0, 0);
      const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        const uint32_t first_words[2] = {w[c][t].x, w[c][t].y}, second_words[2] = {w[c][t].z, w[c][t].w};
        multiply_bf16(sums[t][0], first, first_words);
        multiply_bf16(sums[t][1], second, second_words);
      }
    }
  }
}

// The results of each warp for its part of K, in shared memory.
template <int kTiles>
using PartialSums = float[kWarps][kTiles][kMaxRows][kTileColumns];
using PartialSquares = float[kWarps][kMaxRows];

template <bool kNormed, int kTiles>
__device__ __forceinline__ void leave_parts(PartialSums<kTiles>& partial, PartialSquares& row_squares,
                                            const float (&sums)[kTiles][2][4], float (&squares)[2]) {
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, group = lane / 4, member = lane % 4;
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[warp][t][group + i / 2 * 8][2 * member + i % 2] = sums[t][0][i] + sums[t][1][i];
  if constexpr (kNormed) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      squares[half] += __shfl_xor_sync(kAllLanes, squares[half], 1);
      squares[half] += __shfl_xor_sync(kAllLanes, squares[half], 2);
      if (member == 0) row_squares[warp][half * 8 + group] = squares[half];
    }
  }
}

// kUpper: x has rows 8 to 15.
template <int kTiles, bool kUpper, bool kNormed, class Epilogue>
__global__ void __launch_bounds__(kThreads, 2) multiply_bf16_rows(Product a, Epilogue epilogue) {
  __shared__ PartialSums<kTiles> partial;
  __shared__ PartialSquares row_squares;
  const int group = int(threadIdx.x) % kWarp / 4;
  const bfloat16* weight[kTiles];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int first_column = epilogue.template first_column<kTiles>(t);
    weight[t] = a.weight + min(first_column + group, a.columns - 1) * a.weight_stride;
    // W does not depend on the previous kernel, so its rows are prefetched into the cache while that kernel ends.
    for (int row = 0; row < kTileColumns && first_column + row < a.columns; ++row)
      prefetch(a.weight + (first_column + row) * a.weight_stride, a.depth * int64_t(sizeof(bfloat16)));
  }
  follow_previous();

  // The result, or pair of results, that this thread stores.
  constexpr int kResults = Epilogue::kPairs ? kTileColumns : kTiles * kTileColumns;
  static_assert(kResults * kMaxRows <= kThreads && (!Epilogue::kPairs || kTiles == 2));
  const int row = int(threadIdx.x) / kResults, tile = int(threadIdx.x) % kResults / kTileColumns,
            within = int(threadIdx.x) % kTileColumns;
  const int column = epilogue.template first_column<kTiles>(tile) + within;
  const bool takes = row < a.rows && column < a.columns;
  typename Epilogue::Held held = {};
  if (takes) held = epilogue.load(row, column);

  float sums[kTiles][2][4] = {};  // two chains of instructions per tile
  float squares[2] = {};
  multiply_along_depth<kTiles, kUpper, kNormed>(sums, squares, a, weight);
  leave_parts<kNormed, kTiles>(partial, row_squares, sums, squares);
  __syncthreads();
  if (!takes) return;
  const auto over_warps = [&](const auto& part) {
    float sum = part(0);
#pragma unroll
    for (int w = 1; w < kWarps; ++w) sum += part(w);
    return sum;
  };
  float inverse_rms = 1;
  if constexpr (kNormed) inverse_rms = rsqrtf(over_warps([&](int w) { return row_squares[w][row]; }) / float(a.depth) + a.eps);
  const auto result = [&](int of_tile) {
    const float sum = over_warps([&](int w) { return partial[w][of_tile][row][within]; });
    return kNormed ? sum * inverse_rms : sum;
  };
  if constexpr (Epilogue::kPairs)
    epilogue.store(row, column, held, result(0), result(1));
  else
    epilogue.store(row, column, held, result(tile));
}

// The tiles of a block are adjacent.
struct Adjacent {
  static constexpr bool kPairs = false;
  template <int kTiles>
  __device__ __forceinline__ int first_column(int tile) const {
    return (int(blockIdx.x) * kTiles + tile) * kTileColumns;
  }
};

template <bool kNormed = false, class Epilogue>
void start(const Product& a, const Epilogue& epilogue) {
  const auto run = [&](auto* kernel, int columns) {
    launch_early(kernel, blocks_for(a.columns, columns), kThreads, 0, stream(), a, epilogue);
  };
  if (a.rows > 8) return run(multiply_bf16_rows<2, true, kNormed, Epilogue>, 2 * kTileColumns);
  if constexpr (!Epilogue::kPairs)
    if (a.rows <= 4) return run(multiply_bf16_rows<1, false, kNormed, Epilogue>, kTileColumns);  // few rows: use more blocks
  run(multiply_bf16_rows<2, false, kNormed, Epilogue>, 2 * kTileColumns);  // many rows: each load of x serves more of W
}

}  // namespace echo::kernels::cuda::small
