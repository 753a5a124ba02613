#include "kernels/swiglu.h"

#include "kernels/dispatch.h"
#include "kernels/operands.h"
#include "kernels/vector_exp.h"

namespace echo::kernels {
namespace {

void check_arguments(const char* operation, const Tensor& gate_up, const Tensor& y) {
  ECHO_CHECK(gate_up.rank() >= 1 && gate_up.dim(-1) % 2 == 0 && gate_up.is_contiguous(), operation, ": gate_up is ", gate_up,
             ", expected contiguous (..., 2F)");
  ECHO_CHECK(y.shape() == gate_up.shape().with_last(gate_up.dim(-1) / 2) && y.dtype() == gate_up.dtype() && y.is_contiguous(),
             operation, ": y is ", y, ", gate_up is ", gate_up);
  ECHO_CHECK(y.device() == gate_up.device(), operation, ": y is on ", y.device(), ", gate_up on ", gate_up.device());
}

}  // namespace

namespace cpu {

void swiglu_forward(Tensor& y, const Tensor& gate_up) {
  const int64_t width = y.dim(-1), rows = width == 0 ? 0 : y.elements() / width;
  dispatch_float(y.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const T* input = gate_up.data<T>();
    T* output = y.data<T>();
#pragma omp parallel for schedule(static) if (rows * width > 1 << 13)
    for (int64_t row = 0; row < rows; ++row) {
      const T *gate = input + row * 2 * width, *up = gate + width;
      T* target = output + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const A z = A(gate[i]);
        assign(target[i], z / (A(1) + exponential(-z)) * A(up[i]));
      }
    }
  });
}

// With s = 1 / (1 + e^-z):  d silu / dz = s * (1 + z * (1 - s)).
void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up) {
  const int64_t width = dy.dim(-1), rows = width == 0 ? 0 : dy.elements() / width;
  dispatch_float(dy.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const T *input = gate_up.data<T>(), *gradient = dy.data<T>();
    T* output = d_gate_up.data<T>();
#pragma omp parallel for schedule(static) if (rows * width > 1 << 13)
    for (int64_t row = 0; row < rows; ++row) {
      const T *gate = input + row * 2 * width, *up = gate + width, *incoming = gradient + row * width;
      T *d_gate = output + row * 2 * width, *d_up = d_gate + width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const A z = A(gate[i]), g = A(incoming[i]);
        const A s = A(1) / (A(1) + exponential(-z));
        assign(d_gate[i], g * A(up[i]) * s * (A(1) + z * (A(1) - s)));
        assign(d_up[i], g * z * s);
      }
    }
  });
}

}  // namespace cpu

void swiglu_forward(Tensor& y, const Tensor& gate_up) {
  check_arguments("swiglu", gate_up, y);
  ECHO_DISPATCH_DEVICE(y, swiglu_forward, y, gate_up);
}

void swiglu_backward(Tensor& d_gate_up, const Tensor& dy, const Tensor& gate_up) {
  check_arguments("swiglu_backward", gate_up, dy);
  check_arguments("swiglu_backward", d_gate_up, dy);
  ECHO_DISPATCH_DEVICE(dy, swiglu_backward, d_gate_up, dy, gate_up);
}

}  // namespace echo::kernels
