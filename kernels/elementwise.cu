// Element-wise operations on a GPU: kernels/cuda/map.cuh with one function each. Every tensor is read or written once (f32: 12
// bytes per element for two inputs, 8 for one). add_bias also computes the column, with one division per vector; the bias stays
// in cache.
#include "kernels/cuda/map.cuh"
#include "kernels/elementwise.h"

namespace echo::kernels::cuda {
namespace {

template <int kInputCount, bool kWithOutput = false>
struct Takes {
  static constexpr int kInputs = kInputCount;
  static constexpr bool kReadsOutput = kWithOutput;
};

struct Add : Takes<2> {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Subtract : Takes<2> {
  __device__ float operator()(float a, float b) const { return a - b; }
};
struct Multiply : Takes<2> {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct Scale : Takes<1> {
  explicit Scale(double by) : factor(float(by)) {}
  __device__ float operator()(float value) const { return factor * value; }
  float factor;
};
struct Square : Takes<1> {
  __device__ float operator()(float value) const { return value * value; }
};
struct AddScaled : Takes<1, true> {
  explicit AddScaled(double by) : factor(float(by)) {}
  __device__ float operator()(float sum, float value) const { return sum + factor * value; }
  float factor;
};
struct Tanh : Takes<1> {
  __device__ float operator()(float value) const { return tanhf(value); }
};
struct TanhGradient : Takes<2> {
  __device__ float operator()(float gradient, float value) const { return gradient * (1.0f - value * value); }
};

template <class Function>
void unary(const char* operation, Tensor& y, const Tensor& x, const Function& function) {
  dispatch_gpu_float(operation, y.dtype(),
                     [&]<class T>() { map(y.data<T>(), x.data<T>(), static_cast<const T*>(nullptr), y.elements(), function); });
}

template <class Function>
void binary(const char* operation, Tensor& y, const Tensor& a, const Tensor& b, const Function& function) {
  dispatch_gpu_float(operation, y.dtype(),
                     [&]<class T>() { map(y.data<T>(), a.data<T>(), b.data<T>(), y.elements(), function); });
}

constexpr int kItems = 4;  // vectors per thread, all loaded before the first is used

template <int kCount, class T>
__global__ void __launch_bounds__(kMapThreads)
    add_bias_rows(T* y, const T* x, const T* bias, int64_t vectors, int64_t columns) {
  const int64_t first = int64_t(blockIdx.x) * (kItems * kMapThreads) + threadIdx.x;
  float values[kItems][kCount], addend[kItems][kCount];
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t start = (first + item * kMapThreads) * kCount;
    if (start >= vectors * kCount) continue;
    load_elements(values[item], x + start);
    load_elements(addend[item], bias + (start - divide(start, columns) * columns));
  }
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t index = first + item * kMapThreads;
    if (index >= vectors) continue;
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[item][i] += addend[item][i];
    store_elements(y + index * kCount, values[item]);
  }
}

}  // namespace

void add(Tensor& y, const Tensor& a, const Tensor& b) { binary("add", y, a, b, Add{}); }
void subtract(Tensor& y, const Tensor& a, const Tensor& b) { binary("subtract", y, a, b, Subtract{}); }
void multiply(Tensor& y, const Tensor& a, const Tensor& b) { binary("multiply", y, a, b, Multiply{}); }
void scale(Tensor& y, const Tensor& x, double factor) { unary("scale", y, x, Scale(factor)); }
void square(Tensor& y, const Tensor& x) { unary("square", y, x, Square{}); }
void tanh_forward(Tensor& y, const Tensor& x) { unary("tanh", y, x, Tanh{}); }
void tanh_backward(Tensor& dx, const Tensor& dy, const Tensor& y) { binary("tanh_backward", dx, dy, y, TanhGradient{}); }

void add_scaled(Tensor& y, const Tensor& x, double factor) {
  dispatch_gpu_float("add_scaled", y.dtype(), [&]<class Y>() {
    dispatch_gpu_float("add_scaled", x.dtype(), [&]<class X>() {
      map(y.data<Y>(), x.data<X>(), static_cast<const X*>(nullptr), y.elements(), AddScaled(factor));
    });
  });
}

void add_bias(Tensor& y, const Tensor& x, const Tensor& bias) {
  const int64_t count = x.elements(), columns = x.dim(-1);
  if (count == 0) return;
  dispatch_gpu_float("add_bias", y.dtype(), [&]<class T>() {
    const auto start = [&](auto kernel, int64_t vectors) {
      launch(kernel, blocks_for(vectors, kItems * kMapThreads), kMapThreads, 0, stream(), y.data<T>(), x.data<T>(),
             bias.data<T>(), vectors, columns);
    };
    if (rows_are_aligned<T>({&y, &x, &bias}, columns))
      start(add_bias_rows<kPerVector<T>, T>, count / kPerVector<T>);
    else
      start(add_bias_rows<1, T>, count);
  });
}

}  // namespace echo::kernels::cuda
