// Softmax on a GPU. For aligned rows of up to 8192 elements, a warp owns a short row and a block of 256 threads a long one, and
// holds it in registers (kernels/cuda/rows.cuh). So each tensor is read or written once. For all other rows, a block owns a row
// and each thread takes every 256th element. Then the forward pass reads x three times, and the backward pass its two inputs
// twice, mostly from cache.
#include <limits>

#include "kernels/cuda/rows.cuh"
#include "kernels/softmax.h"

namespace echo::kernels::cuda {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// The extreme of x itself is subtracted, not that of x * scale. So its difference to itself is exactly zero for any magnitude.
template <int kGroup, int kVectors, class T>
__global__ void __launch_bounds__(kRowThreads) forward_rows(T* y, const T* x, int64_t rows, int64_t width, float scale) {
  constexpr int kCount = kPerVector<T>;
  __shared__ float scratch[kRowThreads / kWarp];
  const int64_t row = int64_t(blockIdx.x) * (kRowThreads / kGroup) + threadIdx.x / kGroup;
  const int lane = int(threadIdx.x) % kGroup;
  const float sign = scale < 0.0f ? -1.0f : 1.0f, factor = scale * kLog2E;
  uint4 raw[kVectors];
  load_row<kGroup>(raw, row < rows ? x + row * width : nullptr, width);
  float held[kVectors][kCount], extreme = kNegativeInfinity;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    unpack(held[v], raw[v]);
    if ((v * kGroup + lane) * kCount >= width) continue;
#pragma unroll
    for (int i = 0; i < kCount; ++i) extreme = fmaxf(extreme, sign * held[v][i]);
  }
  extreme = sign * group_max<kGroup>(extreme, scratch);
  float sum[1] = {0};
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if ((v * kGroup + lane) * kCount >= width) continue;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[0] += held[v][i] = fast_exp2((held[v][i] - extreme) * factor);
  }
  group_sum<kGroup>(sum, scratch);
  if (row >= rows) return;
  const float inverse = 1.0f / sum[0];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) held[v][i] *= inverse;
    raw[v] = pack(held[v]);
  }
  store_row<kGroup>(y + row * width, raw, width);
}

template <class T>
__global__ void __launch_bounds__(kRowThreads) forward_any(T* y, const T* x, int64_t width, float scale) {
  __shared__ float scratch[kRowThreads / kWarp];
  x += int64_t(blockIdx.x) * width;
  y += int64_t(blockIdx.x) * width;
  const float sign = scale < 0.0f ? -1.0f : 1.0f, factor = scale * kLog2E;
  float extreme = kNegativeInfinity;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < width; i += kRowThreads) extreme = fmaxf(extreme, sign * to_float(x[i]));
  extreme = sign * group_max<kRowThreads>(extreme, scratch);
  float sum[1] = {0};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < width; i += kRowThreads) sum[0] += fast_exp2((to_float(x[i]) - extreme) * factor);
  group_sum<kRowThreads>(sum, scratch);
  const float inverse = 1.0f / sum[0];
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < width; i += kRowThreads)
    y[i] = from_float<T>(fast_exp2((to_float(x[i]) - extreme) * factor) * inverse);
}

template <int kGroup, int kVectors, class T>
__global__ void __launch_bounds__(kRowThreads)
    backward_rows(T* dx, const T* dy, const T* y, int64_t rows, int64_t width, float scale) {
  constexpr int kCount = kPerVector<T>;
  __shared__ float scratch[kRowThreads / kWarp];
  const int64_t row = int64_t(blockIdx.x) * (kRowThreads / kGroup) + threadIdx.x / kGroup;
  uint4 of_dy[kVectors], of_y[kVectors];
  load_row<kGroup>(of_dy, row < rows ? dy + row * width : nullptr, width);
  load_row<kGroup>(of_y, row < rows ? y + row * width : nullptr, width);
  float inner[1] = {0}, gradient[kCount], value[kCount];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    unpack(gradient, of_dy[v]);
    unpack(value, of_y[v]);
#pragma unroll
    for (int i = 0; i < kCount; ++i) inner[0] += gradient[i] * value[i];
  }
  group_sum<kGroup>(inner, scratch);
  if (row >= rows) return;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    unpack(gradient, of_dy[v]);
    unpack(value, of_y[v]);
#pragma unroll
    for (int i = 0; i < kCount; ++i) value[i] *= scale * (gradient[i] - inner[0]);
    of_y[v] = pack(value);
  }
  store_row<kGroup>(dx + row * width, of_y, width);
}

template <class T>
__global__ void __launch_bounds__(kRowThreads) backward_any(T* dx, const T* dy, const T* y, int64_t width, float scale) {
  __shared__ float scratch[kRowThreads / kWarp];
  const int64_t start = int64_t(blockIdx.x) * width;
  float inner[1] = {0};
#pragma unroll 4
  for (int64_t i = start + threadIdx.x; i < start + width; i += kRowThreads) inner[0] += to_float(dy[i]) * to_float(y[i]);
  group_sum<kRowThreads>(inner, scratch);
#pragma unroll 4
  for (int64_t i = start + threadIdx.x; i < start + width; i += kRowThreads)
    dx[i] = from_float<T>(scale * to_float(y[i]) * (to_float(dy[i]) - inner[0]));
}

}  // namespace

void softmax_forward(Tensor& y, const Tensor& x, double scale) {
  if (x.elements() == 0) return;
  const int64_t width = x.dim(-1), rows = x.elements() / width;
  dispatch_gpu_float("softmax", x.dtype(), [&]<class T>() {
    const bool aligned = rows_are_aligned<T>({&x, &y}, width);
    if (aligned && dispatch_row<T>(width, [&]<int kGroup, int kVectors>() {
          launch(forward_rows<kGroup, kVectors, T>, blocks_for(rows, kRowThreads / kGroup), kRowThreads, 0, stream(),
                 y.data<T>(), x.data<T>(), rows, width, float(scale));
        }))
      return;
    launch(forward_any<T>, unsigned(rows), kRowThreads, 0, stream(), y.data<T>(), x.data<T>(), width, float(scale));
  });
}

void softmax_backward(Tensor& dx, const Tensor& dy, const Tensor& y, double scale) {
  if (y.elements() == 0) return;
  const int64_t width = y.dim(-1), rows = y.elements() / width;
  dispatch_gpu_float("softmax", y.dtype(), [&]<class T>() {
    const bool aligned = rows_are_aligned<T>({&dx, &dy, &y}, width);
    if (aligned && dispatch_row<T>(width, [&]<int kGroup, int kVectors>() {
          launch(backward_rows<kGroup, kVectors, T>, blocks_for(rows, kRowThreads / kGroup), kRowThreads, 0, stream(),
                 dx.data<T>(), dy.data<T>(), y.data<T>(), rows, width, float(scale));
        }))
      return;
    launch(backward_any<T>, unsigned(rows), kRowThreads, 0, stream(), dx.data<T>(), dy.data<T>(), y.data<T>(), width,
           float(scale));
  });
}

}  // namespace echo::kernels::cuda
