#include "kernels/elementwise.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

// y[i] = function(values of the inputs at i, in the accumulator type). y may be one of the inputs: only equal indices overlap,
// so `omp simd` is valid.
template <class T, class Function, class... Inputs>
void map(T* y, int64_t count, Function function, const Inputs*... inputs) {
#pragma omp parallel for simd schedule(static) if (count > kSerialElements)
  for (int64_t i = 0; i < count; ++i) assign(y[i], function(static_cast<accumulator<Inputs>>(inputs[i])...));
}

template <class Function>
void unary(Tensor& y, const Tensor& x, Function function) {
  dispatch_float(y.dtype(), [&]<class T>() { map(y.data<T>(), y.elements(), function, x.data<T>()); });
}

template <class Function>
void binary(Tensor& y, const Tensor& a, const Tensor& b, Function function) {
  dispatch_float(y.dtype(), [&]<class T>() { map(y.data<T>(), y.elements(), function, a.data<T>(), b.data<T>()); });
}

template <class T>
void add_bias_rows(T* y, const T* x, const T* bias, int64_t rows, int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > kSerialElements)
  for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
    for (int64_t i = 0; i < columns; ++i)
      assign(y[row * columns + i], static_cast<accumulator<T>>(x[row * columns + i]) + static_cast<accumulator<T>>(bias[i]));
  }
}

}  // namespace

void add(Tensor& y, const Tensor& a, const Tensor& b) {
  binary(y, a, b, [](auto p, auto q) { return p + q; });
}

void subtract(Tensor& y, const Tensor& a, const Tensor& b) {
  binary(y, a, b, [](auto p, auto q) { return p - q; });
}

void multiply(Tensor& y, const Tensor& a, const Tensor& b) {
  binary(y, a, b, [](auto p, auto q) { return p * q; });
}

void scale(Tensor& y, const Tensor& x, double factor) {
  unary(y, x, [factor](auto value) { return static_cast<decltype(value)>(factor) * value; });
}

void square(Tensor& y, const Tensor& x) {
  unary(y, x, [](auto value) { return value * value; });
}

void add_scaled(Tensor& y, const Tensor& x, double factor) {
  dispatch_float(y.dtype(), [&]<class Y>() {
    dispatch_float(x.dtype(), [&]<class X>() {
      using A = accumulator<Y>;
      const A a_factor = A(factor);
      map(
          y.data<Y>(), y.elements(), [a_factor](auto sum, auto value) { return sum + a_factor * A(value); }, y.data<Y>(),
          x.data<X>());
    });
  });
}

void add_bias(Tensor& y, const Tensor& x, const Tensor& bias) {
  const int64_t columns = x.dim(-1);
  if (x.elements() == 0) return;
  dispatch_float(y.dtype(),
                 [&]<class T>() { add_bias_rows(y.data<T>(), x.data<T>(), bias.data<T>(), x.elements() / columns, columns); });
}

void tanh_forward(Tensor& y, const Tensor& x) {
  unary(y, x, [](auto value) { return std::tanh(value); });
}

void tanh_backward(Tensor& dx, const Tensor& dy, const Tensor& y) {
  binary(dx, dy, y, [](auto gradient, auto value) { return gradient * (1 - value * value); });
}

}  // namespace cpu

void add(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("add", y.shape(), {&y, &a, &b});
  check_same_dtype("add", {&y, &a, &b});
  ECHO_DISPATCH_DEVICE(y, add, y, a, b);
}

void subtract(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("subtract", y.shape(), {&y, &a, &b});
  check_same_dtype("subtract", {&y, &a, &b});
  ECHO_DISPATCH_DEVICE(y, subtract, y, a, b);
}

void multiply(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("multiply", y.shape(), {&y, &a, &b});
  check_same_dtype("multiply", {&y, &a, &b});
  ECHO_DISPATCH_DEVICE(y, multiply, y, a, b);
}

void scale(Tensor& y, const Tensor& x, double factor) {
  check_operands("scale", y.shape(), {&y, &x});
  check_same_dtype("scale", {&y, &x});
  ECHO_DISPATCH_DEVICE(y, scale, y, x, factor);
}

void square(Tensor& y, const Tensor& x) {
  check_operands("square", y.shape(), {&y, &x});
  check_same_dtype("square", {&y, &x});
  ECHO_DISPATCH_DEVICE(y, square, y, x);
}

void add_scaled(Tensor& y, const Tensor& x, double factor) {
  check_operands("add_scaled", y.shape(), {&y, &x});
  ECHO_DISPATCH_DEVICE(y, add_scaled, y, x, factor);
}

void add_bias(Tensor& y, const Tensor& x, const Tensor& bias) {
  check_operands("add_bias", y.shape(), {&y, &x});
  ECHO_CHECK(x.rank() >= 1 && bias.defined() && bias.shape() == Shape{x.dim(-1)} && bias.is_contiguous() &&
                 bias.device() == x.device(),
             "add_bias: x ", x, ", bias ", bias, ", expected one value per column on the same device");
  check_same_dtype("add_bias", {&y, &x, &bias});
  ECHO_DISPATCH_DEVICE(y, add_bias, y, x, bias);
}

void tanh_forward(Tensor& y, const Tensor& x) {
  check_operands("tanh", y.shape(), {&y, &x});
  check_same_dtype("tanh", {&y, &x});
  ECHO_DISPATCH_DEVICE(y, tanh_forward, y, x);
}

void tanh_backward(Tensor& dx, const Tensor& dy, const Tensor& y) {
  check_operands("tanh_backward", y.shape(), {&dx, &dy, &y});
  check_same_dtype("tanh_backward", {&dx, &dy, &y});
  ECHO_DISPATCH_DEVICE(dx, tanh_backward, dx, dy, y);
}

}  // namespace echo::kernels
