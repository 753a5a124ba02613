#pragma once

#include "kernels/attention/views.cuh"

// The scores in a warp's registers, as products on tensor cores of any generation store them: which columns a block of rows
// sees, and which of its scores count. A warp has M groups of 16 rows. scores[m][n] is the 16 x 8 matrix of columns 8 n
// (fragments: kernels/cuda/matrix.cuh).
namespace echo::kernels::cuda::attention::sm80 {

inline constexpr float kInfinity = __builtin_huge_valf();

// What the rows of a block are. Its columns are the other one.
enum class Side { queries, keys };

// Returns `value`, but hides it from the compiler. Addresses computed from the result inside a loop then stay in the loop, and
// need no registers outside it.
__device__ __forceinline__ int opaque(int value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

__device__ __forceinline__ int lane_number() { return int(threadIdx.x) % kWarp; }

// The columns that rows [row, row + kRows) may see. For queries, the beginning is rounded down to a whole tile. Whole warps
// must call it.
struct Range {
  int begin, end;
};
template <Side kSide, int N, int kRows>
__device__ __forceinline__ Range column_range(const AttentionProblem<bfloat16>& problem, int batch, int row) {
  if constexpr (kSide == Side::queries) {
    Range range{0, min(row + kRows, problem.positions)};
    if (problem.first_key != nullptr) {
      int smallest = 0x7fffffff;
      for (int i = lane_number(); i < kRows; i += kWarp) smallest = min(smallest, problem.first_key_of(batch, row + i));
      range.begin = max(-warp_max(-smallest), 0) / N * N;
    }
    return range;
  } else {
    Range range{row, problem.positions};
    if (problem.first_key != nullptr) {
      int end = row;
      for (int query = row + lane_number(); query < problem.positions; query += kWarp)
        if (problem.first_key_of(batch, query) < row + kRows) end = query + 1;
      range.end = warp_max(end);
    }
    return range;
  }
}

// True when one of kRows rows may see one of N columns (sees_any), or when one of them may not see one (misses_any).
template <Side kSide, int N, int kRows>
__device__ __forceinline__ bool sees_any(int positions, int row, int column) {
  return row < positions && (kSide == Side::queries ? column < row + kRows : row < column + N);
}
template <Side kSide, int N, int kRows>
__device__ __forceinline__ bool misses_any(const AttentionProblem<bfloat16>& problem, int row, int column) {
  return problem.first_key != nullptr || (kSide == Side::queries ? column + N - 1 > row : row + kRows - 1 > column);
}

// Sets scores that do not count to -infinity. `row` and `column` are the first ones of the warp and of the tile.
template <Side kSide, int N, int M>
__device__ __forceinline__ void mask(float (&scores)[M][N / 8][4], const AttentionProblem<bfloat16>& problem, int batch,
                                     int row, int column) {
  const int lane = opaque(lane_number());
  row += lane / 4;
  column += lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = row + 16 * m + 8 * (i / 2), c = column + 8 * n + i % 2;
        if (kSide == Side::queries ? c > r : r > c) scores[m][n][i] = -kInfinity;
      }
    }
  }
  if (problem.first_key == nullptr) return;
  if constexpr (kSide == Side::queries) {
#pragma unroll
    for (int half = 0; half < 2 * M; ++half) {
      const int first = problem.first_key_of(batch, row + 8 * half);
#pragma unroll
      for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (column + 8 * n + i < first) scores[half / 2][n][half % 2 * 2 + i] = -kInfinity;
      }
    }
  } else {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int first = problem.first_key_of(batch, column + 8 * n + i);
#pragma unroll
        for (int half = 0; half < 2 * M; ++half)
          if (row + 8 * half < first) scores[half / 2][n][half % 2 * 2 + i] = -kInfinity;
      }
    }
  }
}

}  // namespace echo::kernels::cuda::attention::sm80
