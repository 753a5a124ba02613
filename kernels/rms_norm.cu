// RMSNorm on a GPU. For aligned rows of up to 8192 elements, a warp owns a short row and a block of 256 threads a long one, and
// holds it in registers (kernels/cuda/rows.cuh). Up to four rows are in flight at once, and the weight stays in registers from
// row to row. Each tensor is moved once: forward reads x (and delta) and writes y (and sum); backward reads dy, x (and d_sum)
// and writes dx. The same pass computes the weight's gradient: a thread sums its columns over the rows of its block, each block
// stores one row of f32, and a second kernel adds these in order. Which rows a block takes depends only on the shape, so two
// equal runs give the same bits. For all other rows, a warp owns a row and reads it twice, and the weight's gradient needs one
// more pass.
#include <algorithm>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/rms_norm.h"
#include "tensor/cuda_device.h"

namespace echo::kernels::cuda {
namespace {

// ---- rows in registers -------------------------------------------------------------------------------------------------
// The number of an A100. In the backward pass the rows of a block must not depend on the GPU. With this many blocks, all of
// them run at the same time on an A100 or a larger GPU.
constexpr int64_t kMultiprocessors = 108;

// How a block of kRowThreads threads processes rows of T: kGroups groups of threads side by side, each with kForward or
// kBackward rows at once. Also the number of such blocks that fit on a multiprocessor.
template <int kGroup, int kVectors, class T>
struct RowShape {
  static constexpr int kCount = kPerVector<T>, kHeld = kVectors * kCount, kGroups = kRowThreads / kGroup;
  static constexpr int kForward = kVectors == 1 ? 4 : kVectors == 2 ? 2 : 1, kForwardBlocks = kVectors <= 2 ? 3 : 2;
  static constexpr int kBackward = kVectors <= 2 ? 2 : 1, kBackwardBlocks = kVectors == 1 ? 3 : kVectors == 2 ? 2 : 1;
  static constexpr bool kKeepsWeight = kHeld <= 16;  // otherwise it is read again for every row, from cache
};

// The weight at the thread's vectors, from registers or from memory.
template <int kGroup, int kVectors, class T, class W>
class ColumnWeights {
  using Shape = RowShape<kGroup, kVectors, T>;

 public:
  __device__ __forceinline__ ColumnWeights(const W* weight, int64_t width) : weight_(weight), width_(width) {
    if constexpr (Shape::kKeepsWeight) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) read(kept_[v], v);
    }
  }
  __device__ __forceinline__ void at(float (&values)[Shape::kCount], int v) const {
    if constexpr (Shape::kKeepsWeight) {
#pragma unroll
      for (int i = 0; i < Shape::kCount; ++i) values[i] = kept_[v][i];
    } else {
      read(values, v);
    }
  }

 private:
  __device__ __forceinline__ void read(float (&values)[Shape::kCount], int v) const {
    const int column = (v * kGroup + int(threadIdx.x) % kGroup) * Shape::kCount;
#pragma unroll
    for (int i = 0; i < Shape::kCount; ++i) values[i] = 0;
    if (column >= width_) return;
    if constexpr (Shape::kCount % kPerVector<W> == 0) {
      load_elements(values, weight_ + column);
    } else {
      const uint2 read = *reinterpret_cast<const uint2*>(weight_ + column);
      values[0] = low_bf16(read.x), values[1] = high_bf16(read.x), values[2] = low_bf16(read.y), values[3] = high_bf16(read.y);
    }
  }

  const W* weight_;
  int64_t width_;
  float kept_[Shape::kKeepsWeight ? kVectors : 1][Shape::kCount];
};

template <int kGroup, int kVectors, class T, class W>
__global__ void __launch_bounds__(kRowThreads, RowShape<kGroup, kVectors, T>::kForwardBlocks)
    forward_held(T* sum, T* y, float* inverse_rms, const T* x, const T* delta, const W* weight, int64_t rows, int64_t width,
                 float eps) {
  using Shape = RowShape<kGroup, kVectors, T>;
  constexpr int kRows = Shape::kForward;
  __shared__ float scratch[kRowThreads / kWarp * kRows];
  const int group = int(threadIdx.x) / kGroup;
  follow_previous();
  const ColumnWeights<kGroup, kVectors, T, W> weights(weight, width);
  for (int64_t first = int64_t(blockIdx.x) * (Shape::kGroups * kRows); first < rows;
       first += int64_t(gridDim.x) * (Shape::kGroups * kRows)) {
    uint4 held[kRows][kVectors], addend[kRows][kVectors];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r * Shape::kGroups + group;
      load_row<kGroup>(held[r], row < rows ? x + row * width : nullptr, width);
      load_row<kGroup>(addend[r], row < rows && delta != nullptr ? delta + row * width : nullptr, width);
    }
    float squares[kRows] = {}, values[Shape::kCount], others[Shape::kCount];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        unpack(values, held[r][v]);
        if (delta != nullptr) {  // the norm uses the sum as rounded for storage
          unpack(others, addend[r][v]);
#pragma unroll
          for (int i = 0; i < Shape::kCount; ++i) values[i] += others[i];
          held[r][v] = pack(values);
          unpack(values, held[r][v]);
        }
#pragma unroll
        for (int i = 0; i < Shape::kCount; ++i) squares[r] += values[i] * values[i];
      }
    }
    group_sum<kGroup>(squares, scratch);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r * Shape::kGroups + group;
      if (row >= rows) continue;
      const float inverse = rsqrtf(squares[r] / float(width) + eps);
      if (threadIdx.x % kGroup == 0) inverse_rms[row] = inverse;
      if (delta != nullptr) store_row<kGroup>(sum + row * width, held[r], width);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        unpack(values, held[r][v]);
        weights.at(others, v);
#pragma unroll
        for (int i = 0; i < Shape::kCount; ++i) values[i] *= inverse * others[i];
        held[r][v] = pack(values);
      }
      store_row<kGroup>(y + row * width, held[r], width);
    }
  }
}

// Stores the block's sums over its rows, one per column, in `partial`. All threads of the block must call it. `columns` is used
// when a group is a warp, and holds one row of the maximum width.
template <int kGroup, int kVectors, class T, int kCount>
__device__ __forceinline__ void leave_weight_sums(float* partial, float (&of_weight)[kVectors][kCount], float* columns,
                                                  int64_t width) {
  const int group = int(threadIdx.x) / kGroup, lane = int(threadIdx.x) % kGroup;
  if constexpr (kGroup == kWarp) {  // the groups add their sums one after another
    for (int turn = 0; turn < RowShape<kGroup, kVectors, T>::kGroups; ++turn) {
      if (turn == group) {
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
#pragma unroll
          for (int i = 0; i < kCount; ++i) {
            float& column = columns[(v * kCount + i) * kWarp + lane];
            column = of_weight[v][i] + (turn == 0 ? 0.0f : column);
          }
        }
      }
      __syncthreads();
    }
    if (group != 0) return;
  }
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = (v * kGroup + lane) * kCount;
    if (at >= width) continue;
    if constexpr (kGroup == kWarp) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) of_weight[v][i] = columns[(v * kCount + i) * kWarp + lane];
    }
    store_elements(partial + at, of_weight[v]);
  }
}

// `partial`: one row per block, or null when the weight's gradient is not computed.
template <int kGroup, int kVectors, class T, class W>
__global__ void __launch_bounds__(kRowThreads, RowShape<kGroup, kVectors, T>::kBackwardBlocks)
    backward_held(T* dx, float* partial, const T* dy, const T* d_sum, const T* x, const W* weight, const float* inverse_rms,
                  int64_t rows, int64_t width) {
  using Shape = RowShape<kGroup, kVectors, T>;
  constexpr int kRows = Shape::kBackward, kColumns = kGroup == kWarp ? kGroup * Shape::kHeld : 1;
  __shared__ float scratch[kRowThreads / kWarp * kRows];
  __shared__ float columns[kColumns];
  const int group = int(threadIdx.x) / kGroup;
  const ColumnWeights<kGroup, kVectors, T, W> weights(weight, width);
  float of_weight[kVectors][Shape::kCount] = {}, gradient[Shape::kCount], input[Shape::kCount], scale[Shape::kCount];
  for (int64_t first = int64_t(blockIdx.x) * (Shape::kGroups * kRows); first < rows;
       first += int64_t(gridDim.x) * (Shape::kGroups * kRows)) {
    uint4 of_dy[kRows][kVectors], of_x[kRows][kVectors], of_d_sum[kRows][kVectors];
    float inner[kRows] = {}, inverse[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r * Shape::kGroups + group, start = row * width;
      load_row<kGroup>(of_dy[r], row < rows ? dy + start : nullptr, width);
      load_row<kGroup>(of_x[r], row < rows ? x + start : nullptr, width);
      load_row<kGroup>(of_d_sum[r], row < rows && d_sum != nullptr ? d_sum + start : nullptr, width);
      inverse[r] = row < rows ? inverse_rms[row] : 0.0f;
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        unpack(gradient, of_dy[r][v]);
        unpack(input, of_x[r][v]);
        weights.at(scale, v);
#pragma unroll
        for (int i = 0; i < Shape::kCount; ++i) {
          const float product = gradient[i] * input[i];
          inner[r] += product * scale[i];
          of_weight[v][i] += product * inverse[r];
        }
      }
    }
    group_sum<kGroup>(inner, scratch);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r * Shape::kGroups + group;
      if (row >= rows) continue;
      const float factor = inner[r] * inverse[r] * inverse[r] / float(width);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        unpack(gradient, of_dy[r][v]);
        unpack(input, of_x[r][v]);
        weights.at(scale, v);
#pragma unroll
        for (int i = 0; i < Shape::kCount; ++i) gradient[i] = inverse[r] * (gradient[i] * scale[i] - input[i] * factor);
        unpack(input, of_d_sum[r][v]);
#pragma unroll
        for (int i = 0; i < Shape::kCount; ++i) gradient[i] += input[i];
        of_dy[r][v] = pack(gradient);
      }
      store_row<kGroup>(dx + row * width, of_dy[r], width);
    }
  }
  if (partial != nullptr) leave_weight_sums<kGroup, kVectors, T>(partial + blockIdx.x * width, of_weight, columns, width);
}

// ---- any row -----------------------------------------------------------------------------------------------------------
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
__global__ void forward_any(T* sum, T* y, float* inverse_rms, const T* x, const T* delta, const W* weight, int64_t rows,
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
__global__ void backward_any(T* dx, const T* dy, const T* d_sum, const T* x, const W* weight, const float* inverse_rms,
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
__global__ void backward_columns_any(float* dweight, const T* dy, const T* x, const float* inverse_rms, int64_t rows,
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

// Does nothing and returns false for rows that are not aligned or too long.
template <class T, class W>
bool start_forward_held(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta, const Tensor& weight,
                        double eps) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  if (!rows_are_aligned<T>({&sum, &y, &x, &delta}, width) || !is_vector_aligned(weight.data<W>(), 0)) return false;
  return dispatch_row<T>(width, [&]<int kGroup, int kVectors>() {
    using Shape = RowShape<kGroup, kVectors, T>;
    const unsigned most = unsigned(Shape::kForwardBlocks * echo::cuda::properties().multiprocessors);
    launch_early(forward_held<kGroup, kVectors, T, W>, std::min(blocks_for(rows, Shape::kGroups * Shape::kForward), most),
                 kRowThreads, 0, stream(), data_or_null<T>(sum), y.data<T>(), inverse_rms.data<float>(), x.data<T>(),
                 data_or_null<T>(delta), weight.data<W>(), rows, width, float(eps));
  });
}

template <class T, class W>
bool start_backward_held(Tensor& dx, Tensor& dweight, GradientMode weight_mode, const Tensor& dy, const Tensor& d_sum,
                         const Tensor& x, const Tensor& weight, const Tensor& inverse_rms) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  if (!rows_are_aligned<T>({&dx, &dy, &d_sum, &x}, width) || !is_vector_aligned(weight.data<W>(), 0)) return false;
  return dispatch_row<T>(width, [&]<int kGroup, int kVectors>() {
    using Shape = RowShape<kGroup, kVectors, T>;
    const int64_t blocks =
        std::min<int64_t>(Shape::kBackwardBlocks * kMultiprocessors, blocks_for(rows, Shape::kGroups * Shape::kBackward));
    const Tensor partial = dweight.defined() ? Tensor::empty({blocks, width}, DType::f32, x.device()) : Tensor();
    launch(backward_held<kGroup, kVectors, T, W>, unsigned(blocks), kRowThreads, 0, stream(), dx.data<T>(),
           data_or_null<float>(partial), dy.data<T>(), data_or_null<T>(d_sum), x.data<T>(), weight.data<W>(),
           inverse_rms.data<float>(), rows, width);
    if (dweight.defined()) add_partials(dweight.data<float>(), partial, weight_mode == GradientMode::accumulate);
  });
}

}  // namespace

void rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta, const Tensor& weight,
                      double eps) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  if (rows == 0) return;
  dispatch_gpu_float("rms_norm", x.dtype(), [&]<class T>() {
    dispatch_gpu_float("rms_norm", weight.dtype(), [&]<class W>() {
      if (start_forward_held<T, W>(sum, y, inverse_rms, x, delta, weight, eps)) return;
      launch(forward_any<T, W>, blocks_for(rows, kWarpsPerBlock), dim3(kWarp, kWarpsPerBlock), 0, stream(),
             data_or_null<T>(sum), y.data<T>(), inverse_rms.data<float>(), x.data<T>(), data_or_null<T>(delta),
             weight.data<W>(), rows, width, float(eps));
    });
  });
}

void rms_norm_backward(Tensor& dx, Tensor& dweight, GradientMode weight_mode, const Tensor& dy, const Tensor& d_sum,
                       const Tensor& x, const Tensor& weight, const Tensor& inverse_rms) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  if (rows == 0) {
    if (dweight.defined() && weight_mode == GradientMode::overwrite) dweight.fill_zero();
    return;
  }
  dispatch_gpu_float("rms_norm", x.dtype(), [&]<class T>() {
    dispatch_gpu_float("rms_norm", weight.dtype(), [&]<class W>() {
      if (start_backward_held<T, W>(dx, dweight, weight_mode, dy, d_sum, x, weight, inverse_rms)) return;
      // The weight's gradient comes first, because dx may be dy.
      if (dweight.defined())
        launch(backward_columns_any<T>, blocks_for(width, kWarp), dim3(kWarp, kColumnRows), 0, stream(), dweight.data<float>(),
               dy.data<T>(), x.data<T>(), inverse_rms.data<float>(), rows, width, weight_mode == GradientMode::accumulate);
      launch(backward_any<T, W>, blocks_for(rows, kWarpsPerBlock), dim3(kWarp, kWarpsPerBlock), 0, stream(), dx.data<T>(),
             dy.data<T>(), data_or_null<T>(d_sum), x.data<T>(), weight.data<W>(), inverse_rms.data<float>(), rows, width);
    });
  });
}

}  // namespace echo::kernels::cuda
