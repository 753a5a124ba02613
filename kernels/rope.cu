// Rotary embedding on a GPU. A thread owns one vector of pairs (16 bytes of the first half of a head, and the 16 bytes of the
// second half that belong to them) in two heads of a token. So cosines and sines are read once for two heads, and four loads
// are in flight. Neighbouring threads own neighbouring vectors, then neighbouring heads. No shared memory. Bytes per token: H *
// Dh elements read and written, and Dh f32 of the table once per two heads, mostly from the L1 cache.
#include "kernels/cuda/elements.cuh"
#include "kernels/rope.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsPerThread = 2;

struct Strides {
  int64_t batch, token, head;
};

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads) turn(T* y, const T* x, const float* cosines, const float* sines, Strides to,
                                                 Strides from, int64_t rows, int64_t tokens, int heads, int half, float sign) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const int64_t b = divide(row, tokens), t = row - b * tokens;
  const T* source = x + b * from.batch + t * from.token;
  T* target = y + b * to.batch + t * to.token;
  const int vectors = half / kCount, groups = (heads + kHeadsPerThread - 1) / kHeadsPerThread;
  for (int item = int(threadIdx.x); item < groups * vectors; item += int(blockDim.x)) {
    const int first_head = item / vectors, i = (item - first_head * vectors) * kCount;
    float first[kHeadsPerThread][kCount], second[kHeadsPerThread][kCount], cosine[kCount], sine[kCount];
    load_elements(cosine, cosines + t * half + i);
    load_elements(sine, sines + t * half + i);
#pragma unroll
    for (int j = 0; j < kHeadsPerThread; ++j) {
      const int head = first_head + j * groups;
      if (head >= heads) continue;
      load_elements(first[j], source + head * from.head + i);
      load_elements(second[j], source + head * from.head + i + half);
    }
#pragma unroll
    for (int j = 0; j < kHeadsPerThread; ++j) {
      const int head = first_head + j * groups;
      if (head >= heads) continue;
      float turned_first[kCount], turned_second[kCount];
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const float turn = sign * sine[k];
        turned_first[k] = first[j][k] * cosine[k] - second[j][k] * turn;
        turned_second[k] = second[j][k] * cosine[k] + first[j][k] * turn;
      }
      store_elements(target + head * to.head + i, turned_first);
      store_elements(target + head * to.head + i + half, turned_second);
    }
  }
}

template <class T>
bool is_aligned(const Tensor& x) {
  for (int dimension = 0; dimension < 3; ++dimension)
    if (!is_vector_aligned(x.data<T>(), x.stride(dimension))) return false;
  return true;
}

}  // namespace

void rope(Tensor& y, const Tensor& x, const RopeTable& table, int64_t first_position, RopeDirection direction) {
  const int64_t tokens = x.dim(1), rows = x.dim(0) * tokens, half = x.dim(3) / 2;
  const int heads = int(x.dim(2));
  if (x.elements() == 0) return;
  const float* cosines = table.cosine.data<float>() + first_position * half;
  const float* sines = table.sine.data<float>() + first_position * half;
  const float sign = direction == RopeDirection::forward ? 1.0f : -1.0f;
  const Strides to{y.stride(0), y.stride(1), y.stride(2)}, from{x.stride(0), x.stride(1), x.stride(2)};
  dispatch_gpu_float("rope", x.dtype(), [&]<class T>() {
    const auto run = [&](auto kernel, int64_t count) {
      const int64_t items = (heads + kHeadsPerThread - 1) / kHeadsPerThread * (half / count);
      const unsigned across = unsigned(std::min<int64_t>(items, kThreads)), down = kThreads / across;
      launch(kernel, blocks_for(rows, down), dim3(across, down), 0, stream(), y.data<T>(), x.data<T>(), cosines, sines, to,
             from, rows, tokens, heads, int(half), sign);
    };
    constexpr int kVector = kPerVector<T>;
    if (half % kVector == 0 && is_aligned<T>(x) && is_aligned<T>(y) && is_vector_aligned(cosines, half) &&
        is_vector_aligned(sines, half))
      run(turn<kVector, T>, kVector);
    else
      run(turn<1, T>, 1);
  });
}

}  // namespace echo::kernels::cuda
