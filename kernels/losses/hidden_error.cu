// Hidden-state error on a GPU. A block owns a row, and each thread owns every kThreads-th vector. A thread keeps its first
// kHeld vectors in registers between the sums and the gradient (rows of up to 2048 bf16 or 1024 f32). The rest of a longer row
// is read a second time, from the L2 cache. Bytes per row: D elements of student and teacher read, and D written if a gradient
// is computed (and read, to accumulate). Each row stores two sums (8 bytes). One block adds them up in f64 in a fixed order,
// and the host reads three numbers.
#include "kernels/cuda/elements.cuh"
#include "kernels/losses/hidden_error.h"
#include "tensor/cuda_memory.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kHeld = 2;
constexpr int kTotalThreads = 512;

template <int kCount>
__device__ __forceinline__ void add_squares(float& difference, float& power, const float (&s)[kCount],
                                            const float (&t)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float d = s[i] - t[i];
    difference += d * d;
    power += t[i] * t[i];
  }
}

template <int kCount, class S>
__device__ __forceinline__ void write_gradient(S* to, bool accumulate, float factor, const float (&s)[kCount],
                                               const float (&t)[kCount]) {
  float result[kCount] = {};
  if (accumulate) load_elements(result, to);
#pragma unroll
  for (int i = 0; i < kCount; ++i) result[i] += factor * (s[i] - t[i]);
  store_elements(to, result);
}

// `gradient` and `labels` may be null. `scale`: the factor of the gradient of sum_d (s - t)^2 / width.
template <int kCount, class S, class T>
__global__ void __launch_bounds__(kThreads)
    row_errors(S* gradient, float2* sums, const S* student, const T* teacher, const int32_t* labels, int64_t width,
               bool accumulate, bool relative, float scale) {
  __shared__ float scratch[kThreads / kWarp];
  const int64_t row = blockIdx.x, first = int64_t(threadIdx.x) * kCount;
  constexpr int64_t kStep = kThreads * kCount;
  const S* s_row = student + row * width;
  const T* t_row = teacher + row * width;
  S* d_row = gradient + row * width;
  if (labels != nullptr && labels[row] < 0) {
    if (gradient == nullptr || accumulate) return;
    const float zeros[kCount] = {};
    for (int64_t i = first; i < width; i += kStep) store_elements(d_row + i, zeros);
    return;
  }
  float s[kHeld][kCount], t[kHeld][kCount], difference = 0, power = 0;
#pragma unroll
  for (int held = 0; held < kHeld; ++held) {
    const int64_t i = first + held * kStep;
    if (i >= width) continue;
    load_elements(s[held], s_row + i);
    load_elements(t[held], t_row + i);
  }
#pragma unroll
  for (int held = 0; held < kHeld; ++held)
    if (first + held * kStep < width) add_squares(difference, power, s[held], t[held]);
  for (int64_t i = first + kHeld * kStep; i < width; i += kStep) {
    float s_more[kCount], t_more[kCount];
    load_elements(s_more, s_row + i);
    load_elements(t_more, t_row + i);
    add_squares(difference, power, s_more, t_more);
  }
  difference = block_sum<kThreads / kWarp>(difference, scratch);
  power = block_sum<kThreads / kWarp>(power, scratch);
  if (threadIdx.x == 0) sums[row] = make_float2(difference, power);
  if (gradient == nullptr) return;
  const float factor = relative ? scale / (power / float(width) + float(kTeacherPowerFloor)) : scale;
#pragma unroll
  for (int held = 0; held < kHeld; ++held) {
    const int64_t i = first + held * kStep;
    if (i < width) write_gradient(d_row + i, accumulate, factor, s[held], t[held]);
  }
  for (int64_t i = first + kHeld * kStep; i < width; i += kStep) {
    float s_more[kCount], t_more[kCount];
    load_elements(s_more, s_row + i);
    load_elements(t_more, t_row + i);
    write_gradient(d_row + i, accumulate, factor, s_more, t_more);
  }
}

// totals: raw, relative, rows.
__global__ void __launch_bounds__(kTotalThreads)
    total_errors(double* totals, const float2* sums, const int32_t* labels, int64_t rows, int64_t width) {
  __shared__ double scratch[kTotalThreads / kWarp];
  double raw = 0, relative = 0, counted = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kTotalThreads) {
    if (labels != nullptr && labels[row] < 0) continue;
    const double error = double(sums[row].x) / double(width);
    raw += error;
    relative += error / (double(sums[row].y) / double(width) + kTeacherPowerFloor);
    counted += 1;
  }
  raw = block_sum<kTotalThreads / kWarp>(raw, scratch);
  relative = block_sum<kTotalThreads / kWarp>(relative, scratch);
  counted = block_sum<kTotalThreads / kWarp>(counted, scratch);
  if (threadIdx.x == 0) totals[0] = raw, totals[1] = relative, totals[2] = counted;
}

}  // namespace

HiddenError hidden_error(Tensor& d_student, GradientMode mode, const Tensor& student, const Tensor& teacher,
                         const Tensor& labels, HiddenNormalization normalization, double gradient_scale) {
  const int64_t width = student.dim(-1), rows = student.elements() / width;
  if (rows == 0) return {};
  const Tensor sums = Tensor::empty({rows, 2}, DType::f32, student.device());
  const Tensor totals = Tensor::empty({3}, DType::f64, student.device());
  float2* row_sums = reinterpret_cast<float2*>(sums.data<float>());
  const int32_t* label = data_or_null<int32_t>(labels);
  dispatch_gpu_float("hidden_error", student.dtype(), [&]<class S>() {
    dispatch_gpu_float("hidden_error", teacher.dtype(), [&]<class T>() {
      S* gradient = data_or_null<S>(d_student);
      const auto run = [&](auto kernel) {
        launch(kernel, unsigned(rows), kThreads, 0, stream(), gradient, row_sums, student.data<S>(), teacher.data<T>(), label,
               width, mode == GradientMode::accumulate, normalization == HiddenNormalization::teacher_power,
               float(gradient_scale * 2 / double(width)));
      };
      constexpr int kVector = kPerThread<S, T>;
      if (width % kVector == 0 && is_vector_aligned(student.data<S>(), width) && is_vector_aligned(teacher.data<T>(), width) &&
          (gradient == nullptr || is_vector_aligned(gradient, width)))
        run(row_errors<kVector, S, T>);
      else
        run(row_errors<1, S, T>);
    });
  });
  launch(total_errors, 1, kTotalThreads, 0, stream(), totals.data<double>(), row_sums, label, rows, width);
  double result[3];
  echo::cuda::copy_to_host(result, totals.data<double>(), sizeof result);
  return {result[0], result[1], int64_t(result[2])};
}

}  // namespace echo::kernels::cuda
