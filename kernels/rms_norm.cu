// RMSNorm on a GPU: one warp owns a row, a thread every 32nd element of it; sums by warp shuffles, no shared memory.
// Bytes per row of width D: forward reads x (and delta) and the weight, writes y (and sum); backward reads dy, x (and d_sum), writes dx.
// The weight's gradient: one block owns 32 columns, its rows of threads stride over the rows and meet in shared memory in a fixed
// order, so that the same run twice gives the same bits.
#include "kernels/cuda_common.cuh"
#include "kernels/rms_norm.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kWarpsPerBlock = 8;
constexpr int kColumnRows = 8;

template <class T>
__device__ float load(const T* at, int64_t i) {
  return to_float(at[i]);
}
template <class T>
__device__ void store(T* at, int64_t i, float value) {
  at[i] = from_float<T>(value);
}

template <class T, class W>
__global__ void forward_rows(T* sum, T* y, float* inverse_rms, const T* x, const T* delta, const W* weight, int64_t rows,
                             int64_t width, float eps) {
  const int64_t row = int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const int64_t start = row * width;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < width; i += kWarp) {
    float value = load(x, start + i);
    if (delta != nullptr) {
      store(sum, start + i, value + load(delta, start + i));
      value = load(sum, start + i);
    }
    squares += value * value;
  }
  const float inverse = rsqrtf(warp_sum(squares) / float(width) + eps);
  if (threadIdx.x == 0) inverse_rms[row] = inverse;
  const T* input = delta != nullptr ? sum : x;
  for (int64_t i = threadIdx.x; i < width; i += kWarp) store(y, start + i, load(input, start + i) * inverse * load(weight, i));
}

template <class T, class W>
__global__ void backward_rows(T* dx, const T* dy, const T* d_sum, const T* x, const W* weight, const float* inverse_rms,
                              int64_t rows, int64_t width) {
  const int64_t row = int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const int64_t start = row * width;
  float inner = 0;
  for (int64_t i = threadIdx.x; i < width; i += kWarp) inner += load(dy, start + i) * load(weight, i) * load(x, start + i);
  const float inverse = inverse_rms[row];
  const float factor = warp_sum(inner) * inverse * inverse / float(width);
  for (int64_t i = threadIdx.x; i < width; i += kWarp) {
    float value = inverse * (load(dy, start + i) * load(weight, i) - load(x, start + i) * factor);
    if (d_sum != nullptr) value += load(d_sum, start + i);
    store(dx, start + i, value);
  }
}

template <class T>
__global__ void backward_columns(float* dweight, const T* dy, const T* x, const float* inverse_rms, int64_t rows,
                                 int64_t width, bool accumulate) {
  __shared__ float partial[kColumnRows][kWarp];
  const int64_t column = int64_t(blockIdx.x) * kWarp + threadIdx.x;
  float sum = 0;
  if (column < width)
    for (int64_t row = threadIdx.y; row < rows; row += kColumnRows)
      sum += load(dy, row * width + column) * load(x, row * width + column) * inverse_rms[row];
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  float total = accumulate ? dweight[column] : 0.0f;
  for (int i = 0; i < kColumnRows; ++i) total += partial[i][threadIdx.x];
  dweight[column] = total;
}

}  // namespace

void rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta,
                      const Tensor& weight, double eps) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  if (rows == 0) return;
  dispatch_gpu_float("rms_norm", x.dtype(), [&]<class T>() {
    dispatch_gpu_float("rms_norm", weight.dtype(), [&]<class W>() {
      launch(forward_rows<T, W>, blocks_for(rows, kWarpsPerBlock), dim3(kWarp, kWarpsPerBlock), 0, stream(), data_or_null<T>(sum),
             y.data<T>(), inverse_rms.data<float>(), x.data<T>(), data_or_null<T>(delta), weight.data<W>(), rows, width, float(eps));
    });
  });
}

void rms_norm_backward(Tensor& dx, Tensor& dweight, GradientMode weight_mode, const Tensor& dy, const Tensor& d_sum,
                       const Tensor& x, const Tensor& weight, const Tensor& inverse_rms) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  if (rows == 0) return;
  dispatch_gpu_float("rms_norm", x.dtype(), [&]<class T>() {
    dispatch_gpu_float("rms_norm", weight.dtype(), [&]<class W>() {
      launch(backward_rows<T, W>, blocks_for(rows, kWarpsPerBlock), dim3(kWarp, kWarpsPerBlock), 0, stream(), dx.data<T>(),
             dy.data<T>(), data_or_null<T>(d_sum), x.data<T>(), weight.data<W>(), inverse_rms.data<float>(), rows, width);
    });
    if (dweight.defined())
      launch(backward_columns<T>, blocks_for(width, kWarp), dim3(kWarp, kColumnRows), 0, stream(), dweight.data<float>(), dy.data<T>(),
             x.data<T>(), inverse_rms.data<float>(), rows, width, weight_mode == GradientMode::accumulate);
  });
}

}  // namespace echo::kernels::cuda
