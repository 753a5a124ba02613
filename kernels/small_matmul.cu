// Products of up to 16 rows with a matrix that is read once: bytes moved are those of W, so all that counts is how many of its
// loads are under way.
//
// bf16: a block of 8 warps owns kTiles * 8 rows of W (columns of y); its warps take turns along K and meet in shared memory at
// the end, in order. W is the right operand of mma.m16n8k16, x the left one; the instruction's k may be any permutation of K
// that both operands share, so a lane loads 16 bytes (8 elements of a row, the words of two instructions) of each, straight to
// registers. In flight: 8 loads of W per lane, 64 KiB in the two blocks of a multiprocessor. x comes from the first and second
// cache, M / (8 kTiles) of W's bytes.
// Shared memory: 4 KiB for each tile.
//
// f32: a warp owns a row of W and 1 or 4 rows of x at a time; more rows read W again, from the caches.
#include "kernels/cuda_common.cuh"
#include "kernels/cuda_matrix.cuh"
#include "kernels/small_matmul.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kMaxRows = 16;
constexpr int kWarps = 8, kThreads = kWarps * kWarp;

template <class T, class Y>
struct Arguments {
  Y* y;
  const T *x, *weight;
  int rows, columns, depth;  // M, N, K
  int64_t y_stride, x_stride, weight_stride;
};

// ---- bf16 --------------------------------------------------------------------------------------------------------------
constexpr int kTileColumns = 8;    // of an instruction
constexpr int kChunk = 32;         // elements of K that a warp's load of 16 bytes per lane covers: 4 lanes to a row
constexpr int kChunksPerTurn = 2;  // a cache line of each row of W
constexpr int kLoads = 8;          // of W, in flight

__device__ __forceinline__ uint4 load_or_zero(const bfloat16* row, int k, int depth, bool wanted) {
  // An ordinary load: x may be written by the kernel that this one starts before the end of, which rules out the read-only cache.
  return wanted && k < depth ? *reinterpret_cast<const uint4*>(row + k) : make_uint4(0, 0, 0, 0);
}
__device__ __forceinline__ uint4 stream_or_zero(const bfloat16* row, int k, int depth) {
  return k < depth ? __ldcs(reinterpret_cast<const uint4*>(row + k)) : make_uint4(0, 0, 0, 0);
}

// kUpper: there are rows 8 to 15 of x.
template <class Y, int kTiles, bool kUpper>
__global__ void __launch_bounds__(kThreads, 2) multiply_bf16_rows(Arguments<bfloat16, Y> a) {
  __shared__ float partial[kWarps][kTiles][kMaxRows][kTileColumns];
  constexpr int kChunks = kLoads / kTiles, kTurns = kChunks / kChunksPerTurn;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, group = lane / 4, member = lane % 4;
  const int first_column = int(blockIdx.x) * kTiles * kTileColumns;
  const bool has_lower = group < a.rows, has_upper = kUpper && group + 8 < a.rows;
  const bfloat16* const lower = a.x + (has_lower ? group : 0) * a.x_stride;
  const bfloat16* const upper = a.x + (has_upper ? group + 8 : 0) * a.x_stride;
  const bfloat16* weight[kTiles];
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
    weight[t] = a.weight + min(first_column + t * kTileColumns + group, a.columns - 1) * a.weight_stride;

  // W does not depend on the kernel before: its rows come to the cache while that ends.
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
    for (int row = 0; row < kTileColumns && first_column + t * kTileColumns + row < a.columns; ++row)
      prefetch(a.weight + (first_column + t * kTileColumns + row) * a.weight_stride, a.depth * int64_t(sizeof(bfloat16)));
  follow_previous();
  float sums[kTiles][2][4] = {};  // two chains of instructions per tile
  constexpr int kTurn = kWarps * kChunksPerTurn * kChunk;
  for (int start = warp * kChunksPerTurn * kChunk; start < a.depth; start += kTurns * kTurn) {
    uint4 w[kChunks][kTiles], x[kChunks][2];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int k = start + c / kChunksPerTurn * kTurn + c % kChunksPerTurn * kChunk + member * 8;
#pragma unroll
      for (int t = 0; t < kTiles; ++t) w[c][t] = stream_or_zero(weight[t], k, a.depth);
      x[c][0] = load_or_zero(lower, k, a.depth, has_lower);
      if constexpr (kUpper) x[c][1] = load_or_zero(upper, k, a.depth, has_upper);
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
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
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[warp][t][group + i / 2 * 8][2 * member + i % 2] = sums[t][0][i] + sums[t][1][i];
  __syncthreads();
  for (int i = int(threadIdx.x); i < kTiles * kMaxRows * kTileColumns; i += kThreads) {
    const int row = i / (kTiles * kTileColumns), tile = i / kTileColumns % kTiles, within = i % kTileColumns;
    const int column = first_column + tile * kTileColumns + within;
    if (row >= a.rows || column >= a.columns) continue;
    float sum = partial[0][tile][row][within];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) sum += partial[w][tile][row][within];
    a.y[row * a.y_stride + column] = from_float<Y>(sum);
  }
}

// ---- f32 ---------------------------------------------------------------------------------------------------------------
template <int kRows>
__global__ void __launch_bounds__(kThreads) multiply_f32_rows(Arguments<float, float> a) {
  constexpr int kSteps = 4, kStep = kWarp * kPerVector<float>;
  const int lane = int(threadIdx.x) % kWarp, column = int(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp;
  follow_previous();
  if (column >= a.columns) return;
  const float* const weight = a.weight + column * a.weight_stride;
  for (int first = 0; first < a.rows; first += kRows) {
    float sums[kRows] = {};
    for (int start = lane * kPerVector<float>; start < a.depth; start += kSteps * kStep) {
      float w[kSteps][4] = {};
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        if (start + s * kStep < a.depth) load_vector(w[s], weight + start + s * kStep);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        if (start + s * kStep >= a.depth) continue;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          float x[4];
          load_vector(x, a.x + min(first + r, a.rows - 1) * a.x_stride + start + s * kStep);
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[r] += w[s][i] * x[i];
        }
      }
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = warp_sum(sums[r]);
      if (lane == 0 && first + r < a.rows) a.y[(first + r) * a.y_stride + column] = sum;
    }
  }
}

template <class T, class Y>
Arguments<T, Y> arguments_of(const MatmulOperands& p) {
  return {static_cast<Y*>(p.c),
          static_cast<const T*>(p.a),
          static_cast<const T*>(p.b),
          int(p.m),
          int(p.n),
          int(p.k),
          p.ldc,
          p.lda,
          p.ldb};
}

template <class Y>
void start_bf16(const MatmulOperands& p) {
  const auto a = arguments_of<bfloat16, Y>(p);
  const auto start = [&](auto* kernel, int tiles) {
    launch_early(kernel, blocks_for(p.n, tiles * kTileColumns), kThreads, 0, stream(), a);
  };
  // Few rows: more blocks. Many: x is fetched for more of W at once.
  if (p.m <= 4)
    start(multiply_bf16_rows<Y, 1, false>, 1);
  else if (p.m <= 8)
    start(multiply_bf16_rows<Y, 2, false>, 2);
  else
    start(multiply_bf16_rows<Y, 2, true>, 2);
}

}  // namespace

bool small_matmul_fits(const MatmulOperands& p) {
  if (p.transpose_a || !p.transpose_b || p.accumulate || p.m < 1 || p.m > kMaxRows || p.device.is_cpu()) return false;
  if (p.n < 1 || p.k < 1 || p.n >= 1 << 30 || p.k >= 1 << 30) return false;
  const auto aligned = [&]<class T>() {
    return p.k % kPerVector<T> == 0 && is_vector_aligned(static_cast<const T*>(p.a), p.lda) &&
           is_vector_aligned(static_cast<const T*>(p.b), p.ldb);
  };
  if (p.dtype == DType::f32) return p.c_dtype == DType::f32 && aligned.template operator()<float>();
  return p.dtype == DType::bf16 && (p.c_dtype == DType::f32 || p.c_dtype == DType::bf16) &&
         aligned.template operator()<bfloat16>();
}

void small_matmul(const MatmulOperands& p) {
  ECHO_CHECK(small_matmul_fits(p), "small_matmul: a product of ", p.m, " x ", p.n, " x ", p.k, " that is not for it");
  if (p.dtype == DType::bf16) return p.c_dtype == DType::bf16 ? start_bf16<bfloat16>(p) : start_bf16<float>(p);
  const auto a = arguments_of<float, float>(p);
  launch_early(p.m == 1 ? multiply_f32_rows<1> : multiply_f32_rows<4>, blocks_for(p.n, kWarps), kThreads, 0, stream(), a);
}

}  // namespace echo::kernels::cuda
