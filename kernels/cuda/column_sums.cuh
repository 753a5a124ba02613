#pragma once

#include "kernels/cuda/elements.cuh"

// The second stage of sums over rows: adds partial rows in a fixed order.
namespace echo::kernels::cuda {

inline constexpr int kColumnGroups = 16;

// y[j] = sum over i < parts of partial[i, j], plus the old y[j] when accumulating. A block owns kWarp columns. Its
// kColumnGroups rows of threads divide the parts, and their sums are added in shared memory (2 KiB).
template <class Y>
__global__ void __launch_bounds__(kWarp* kColumnGroups)
    add_partial_rows(Y* y, const float* partial, int64_t parts, int64_t columns, bool accumulate) {
  __shared__ float sums[kColumnGroups][kWarp];
  const int64_t column = int64_t(blockIdx.x) * kWarp + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t part = threadIdx.y; part < parts; part += kColumnGroups) sum += partial[part * columns + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  float total = accumulate ? to_float(y[column]) : 0.0f;
#pragma unroll
  for (int i = 0; i < kColumnGroups; ++i) total += sums[i][threadIdx.x];
  y[column] = from_float<Y>(total);
}

// `partial`: f32 (parts, columns).
template <class Y>
void add_partials(Y* y, const Tensor& partial, bool accumulate) {
  const int64_t parts = partial.dim(0), columns = partial.dim(1);
  launch(add_partial_rows<Y>, blocks_for(columns, kWarp), dim3(kWarp, kColumnGroups), 0, stream(), y, partial.data<float>(),
         parts, columns, accumulate);
}

}  // namespace echo::kernels::cuda
