// A block of 1024 threads owns a row. Each thread reads every 1024th entry. Then the threads' results are compared in pairs
// through shared memory. The row is read once.
#include "kernels/argmax.h"
#include "kernels/cuda/common.cuh"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 1024;

// Keeps the larger of two entries, or the first of equal ones. NaN, marked by a position below 0, wins over everything.
__device__ __forceinline__ void keep_larger(float& value, int& position, float other_value, int other_position) {
  const bool takes =
      other_position < 0 || (position >= 0 && (other_value > value || (other_value == value && other_position < position)));
  value = takes ? other_value : value;
  position = takes ? other_position : position;
}

template <class T>
__global__ void __launch_bounds__(kThreads) argmax_rows(int32_t* index, const T* x, int width) {
  __shared__ float values[kThreads];
  __shared__ int positions[kThreads];
  const T* row = x + int64_t(blockIdx.x) * width;
  float value = -INFINITY;
  int position = 0x7fffffff;
  for (int i = int(threadIdx.x); i < width; i += kThreads) {
    const float entry = to_float(row[i]);
    keep_larger(value, position, entry, entry != entry ? -1 : i);
  }
  values[threadIdx.x] = value;
  positions[threadIdx.x] = position;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (int(threadIdx.x) < half)
      keep_larger(values[threadIdx.x], positions[threadIdx.x], values[threadIdx.x + half], positions[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x == 0)
    index[blockIdx.x] = positions[0] >= 0 && positions[0] < width && values[0] - values[0] == 0 ? positions[0] : -1;
}

}  // namespace

void argmax(Tensor& index, const Tensor& x) {
  if (x.dim(0) == 0) return;
  dispatch_gpu_float("argmax", x.dtype(), [&]<class T>() {
    launch(argmax_rows<T>, unsigned(x.dim(0)), kThreads, 0, stream(), index.data<int32_t>(), x.data<T>(), int(x.dim(1)));
  });
}

}  // namespace echo::kernels::cuda
