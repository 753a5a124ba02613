// SwiGLU on a GPU. A thread owns two vectors of 16 bytes of the output, kThreads apart, anywhere in the tensor. The range of a
// block is contiguous. No shared memory. Elements per row: forward reads 2F and writes F, backward reads 3F and writes 2F.
#include "kernels/cuda/elements.cuh"
#include "kernels/swiglu.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kItems = 2;

// Offsets of the thread's vector number `item`: in the output (or its gradient), and of the gate in gate_up.
struct Place {
  int64_t output, gate;
  bool exists;
};
template <int kCount>
__device__ __forceinline__ Place place_of(int item, int64_t vectors, int64_t width) {
  const int64_t index = (int64_t(blockIdx.x) * kItems + item) * kThreads + threadIdx.x;
  const int64_t row = divide(index * kCount, width);
  return {index * kCount, index * kCount + row * width, index < vectors};
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads) forward(T* y, const T* gate_up, int64_t vectors, int64_t width) {
  follow_previous();
  float gate[kItems][kCount], up[kItems][kCount];
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const Place place = place_of<kCount>(item, vectors, width);
    if (!place.exists) continue;
    load_elements(gate[item], gate_up + place.gate);
    load_elements(up[item], gate_up + place.gate + width);
  }
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const Place place = place_of<kCount>(item, vectors, width);
    if (!place.exists) continue;
    float result[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) result[i] = gate[item][i] * sigmoid(gate[item][i]) * up[item][i];
    store_elements(y + place.output, result);
  }
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    backward(T* d_gate_up, const T* dy, const T* gate_up, int64_t vectors, int64_t width) {
  float gate[kItems][kCount], up[kItems][kCount], incoming[kItems][kCount];
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const Place place = place_of<kCount>(item, vectors, width);
    if (!place.exists) continue;
    load_elements(gate[item], gate_up + place.gate);
    load_elements(up[item], gate_up + place.gate + width);
    load_elements(incoming[item], dy + place.output);
  }
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const Place place = place_of<kCount>(item, vectors, width);
    if (!place.exists) continue;
    float d_gate[kCount], d_up[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float z = gate[item][i], g = incoming[item][i], s = sigmoid(z);
      d_gate[i] = g * up[item][i] * s * (1.0f + z * (1.0f - s));
      d_up[i] = g * z * s;
    }
    store_elements(d_gate_up + place.gate, d_gate);
    store_elements(d_gate_up + place.gate + width, d_up);
  }
}

// Calls body.operator()<T, kCount>(vectors, width), with y divided into vectors of kCount elements. y: (..., F). `wide`: (...,
// 2F).
template <class Body>
void for_vectors(const char* operation, const Tensor& y, std::initializer_list<const Tensor*> wide, Body body) {
  if (y.elements() == 0) return;
  const int64_t width = y.dim(-1);
  dispatch_gpu_float(operation, y.dtype(), [&]<class T>() {
    constexpr int kVector = kPerVector<T>;
    if (rows_are_aligned<T>({&y}, width) && rows_are_aligned<T>(wide, width))
      body.template operator()<T, kVector>(y.elements() / kVector, width);
    else
      body.template operator()<T, 1>(y.elements(), width);
  });
}

}  // namespace

void swiglu_forward(Tensor& y, const Tensor& gate_up) {
  for_vectors("swiglu", y, {&gate_up}, [&]<class T, int kCount>(int64_t vectors, int64_t width) {
    launch_early(forward<kCount, T>, blocks_for(vectors, kThreads * kItems), kThreads, 0, stream(), y.data<T>(),
                 gate_up.data<T>(), vectors, width);
  });
}

void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up) {
  for_vectors("swiglu_backward", dy, {&gate_up, &d_gate_up}, [&]<class T, int kCount>(int64_t vectors, int64_t width) {
    launch(backward<kCount, T>, blocks_for(vectors, kThreads * kItems), kThreads, 0, stream(), d_gate_up.data<T>(),
           dy.data<T>(), gate_up.data<T>(), vectors, width);
  });
}

}  // namespace echo::kernels::cuda
