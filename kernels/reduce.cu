// Sums on a GPU. sum: kernels/cuda/sums.cuh. Every element is read once, and the host reads one f64.
// sum_rows: a block owns kWarp vectors of columns and a part of the rows. Its kGroups rows of threads divide the part, each
// with four loads of 16 bytes in flight, and add their sums in shared memory (at most 8 KiB). Each part gives one row of f32. A
// second kernel adds these in order. The number of parts depends only on the shape.
#include <algorithm>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/sums.cuh"
#include "kernels/reduce.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kGroups = 8;
constexpr int64_t kBlocks = 512;  // enough to keep the memory of a large GPU busy

template <class T>
__global__ void __launch_bounds__(kSumThreads) sum_slices(double* slices, const T* x, int64_t count) {
  __shared__ double scratch[kSumThreads / kWarp];
  const int64_t begin = int64_t(blockIdx.x) * kSumSlice;
  const double total = slice_sum<SumOf::values>(x + begin, min(kSumSlice, count - begin), scratch);
  if (threadIdx.x == 0) slices[blockIdx.x] = total;
}

template <int kCount, class T>
__global__ void __launch_bounds__(kWarp* kGroups)
    sum_row_parts(float* partial, const T* x, int64_t rows, int64_t columns, int64_t rows_per_part) {
  constexpr int kLoads = 4;
  __shared__ float sums[kGroups][kWarp * kCount];
  const int64_t column = (int64_t(blockIdx.x) * kWarp + threadIdx.x) * kCount, part = blockIdx.y;
  const int64_t end = min(rows, (part + 1) * rows_per_part);
  float total[kCount] = {};
  for (int64_t row = part * rows_per_part + threadIdx.y; row < end && column < columns; row += kLoads * kGroups) {
    float values[kLoads][kCount];
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[load][i] = 0;
      if (row + load * kGroups < end) load_elements(values[load], x + (row + load * kGroups) * columns + column);
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load)
#pragma unroll
      for (int i = 0; i < kCount; ++i) total[i] += values[load][i];
  }
  // Columns of one vector are kWarp apart, so that the lanes of a warp use different banks.
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[threadIdx.y][i * kWarp + threadIdx.x] = total[i];
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    float sum = 0;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) sum += sums[group][i * kWarp + threadIdx.x];
    partial[part * columns + column + i] = sum;
  }
}

}  // namespace

double sum(const Tensor& x) {
  const int64_t count = x.elements();
  if (count == 0) return 0;
  const Tensor slices = Tensor::empty({(count + kSumSlice - 1) / kSumSlice}, DType::f64, x.device());
  dispatch_gpu_float("sum", x.dtype(), [&]<class T>() {
    launch(sum_slices<T>, unsigned(slices.elements()), kSumThreads, 0, stream(), slices.data<double>(), x.data<T>(), count);
  });
  return total_of(slices);
}

void sum_rows(Tensor& y, const Tensor& x, GradientMode mode) {
  const int64_t columns = x.dim(-1);
  if (columns == 0) return;
  const int64_t rows = x.elements() / columns;
  const bool accumulate = mode == GradientMode::accumulate;
  if (rows == 0) {
    if (!accumulate) y.fill_zero();
    return;
  }
  dispatch_gpu_float("sum_rows", x.dtype(), [&]<class T>() {
    const int count = is_vector_aligned(x.data<T>(), columns) ? kPerVector<T> : 1;
    const int64_t column_blocks = blocks_for(columns, kWarp * count);
    const int64_t most_parts = std::max<int64_t>(1, kBlocks / column_blocks);
    const int64_t rows_per_part = std::max<int64_t>(4 * kGroups, (rows + most_parts - 1) / most_parts);
    const int64_t parts = (rows + rows_per_part - 1) / rows_per_part;
    const Tensor partial = Tensor::empty({parts, columns}, DType::f32, x.device());
    launch(count == 1 ? sum_row_parts<1, T> : sum_row_parts<kPerVector<T>, T>, dim3(unsigned(column_blocks), unsigned(parts)),
           dim3(kWarp, kGroups), 0, stream(), partial.data<float>(), x.data<T>(), rows, columns, rows_per_part);
    dispatch_gpu_float("sum_rows", y.dtype(), [&]<class Y>() { add_partials(y.data<Y>(), partial, accumulate); });
  });
}

}  // namespace echo::kernels::cuda
