#include "kernels/elementwise.h"

#include <cmath>

#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

// y[i] = function(values of the inputs at i, in the accumulator's type). Same-index aliasing is allowed, so `omp simd`
// holds.
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
void add_bias(T* y, const T* x, const T* bias, int64_t rows, int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > kSerialElements)
  for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
    for (int64_t i = 0; i < columns; ++i)
      assign(y[row * columns + i], static_cast<accumulator<T>>(x[row * columns + i]) + static_cast<accumulator<T>>(bias[i]));
  }
}

template <class T>
bool all_finite(const T* x, int64_t count) {
  // x - x is 0 for a finite x and NaN otherwise, so the count of equalities says it without a branch per element.
  int64_t finite = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : finite) if (count > kSerialElements)
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<accumulator<T>>(x[i]);
    finite += value - value == 0 ? 1 : 0;
  }
  return finite == count;
}

}  // namespace
}  // namespace cpu

void add(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("add", y.shape(), {&y, &a, &b});
  check_same_dtype("add", {&y, &a, &b});
  require_cpu("add", y);
  cpu::binary(y, a, b, [](auto p, auto q) { return p + q; });
}

void subtract(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("subtract", y.shape(), {&y, &a, &b});
  check_same_dtype("subtract", {&y, &a, &b});
  require_cpu("subtract", y);
  cpu::binary(y, a, b, [](auto p, auto q) { return p - q; });
}

void multiply(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("multiply", y.shape(), {&y, &a, &b});
  check_same_dtype("multiply", {&y, &a, &b});
  require_cpu("multiply", y);
  cpu::binary(y, a, b, [](auto p, auto q) { return p * q; });
}

void multiply_add(Tensor& y, const Tensor& a, const Tensor& b) {
  check_operands("multiply_add", y.shape(), {&y, &a, &b});
  check_same_dtype("multiply_add", {&y, &a, &b});
  require_cpu("multiply_add", y);
  dispatch_float(y.dtype(), [&]<class T>() {
    cpu::map(
        y.data<T>(), y.elements(), [](auto sum, auto p, auto q) { return sum + p * q; }, y.data<T>(), a.data<T>(), b.data<T>());
  });
}

void scale(Tensor& y, const Tensor& x, double factor) {
  check_operands("scale", y.shape(), {&y, &x});
  check_same_dtype("scale", {&y, &x});
  require_cpu("scale", y);
  cpu::unary(y, x, [factor](auto value) { return static_cast<decltype(value)>(factor) * value; });
}

void square(Tensor& y, const Tensor& x) {
  check_operands("square", y.shape(), {&y, &x});
  check_same_dtype("square", {&y, &x});
  require_cpu("square", y);
  cpu::unary(y, x, [](auto value) { return value * value; });
}

void add_scaled(Tensor& y, const Tensor& x, double factor) {
  check_operands("add_scaled", y.shape(), {&y, &x});
  require_cpu("add_scaled", y);
  dispatch_float(y.dtype(), [&]<class Y>() {
    dispatch_float(x.dtype(), [&]<class X>() {
      using A = accumulator<Y>;
      const A a_factor = A(factor);
      cpu::map(
          y.data<Y>(), y.elements(), [a_factor](auto sum, auto value) { return sum + a_factor * A(value); }, y.data<Y>(),
          x.data<X>());
    });
  });
}

void add_bias(Tensor& y, const Tensor& x, const Tensor& bias) {
  check_operands("add_bias", y.shape(), {&y, &x});
  ECHO_CHECK(x.rank() >= 1 && bias.defined() && bias.shape() == Shape{x.dim(-1)} && bias.is_contiguous(), "add_bias: x ", x,
             ", bias ", bias, ", expected one value per column");
  check_same_dtype("add_bias", {&y, &x, &bias});
  require_cpu("add_bias", y);
  const int64_t columns = x.dim(-1);
  if (x.elements() == 0) return;
  dispatch_float(y.dtype(),
                 [&]<class T>() { cpu::add_bias(y.data<T>(), x.data<T>(), bias.data<T>(), x.elements() / columns, columns); });
}

void tanh_forward(Tensor& y, const Tensor& x) {
  check_operands("tanh", y.shape(), {&y, &x});
  check_same_dtype("tanh", {&y, &x});
  require_cpu("tanh", y);
  cpu::unary(y, x, [](auto value) { return std::tanh(value); });
}

void tanh_backward(Tensor& dx, const Tensor& dy, const Tensor& y) {
  check_operands("tanh_backward", y.shape(), {&dx, &dy, &y});
  check_same_dtype("tanh_backward", {&dx, &dy, &y});
  require_cpu("tanh_backward", dx);
  cpu::binary(dx, dy, y, [](auto gradient, auto value) { return gradient * (1 - value * value); });
}

bool all_finite(const Tensor& x) {
  check_operands("all_finite", x.shape(), {&x});
  require_cpu("all_finite", x);
  bool result = true;
  dispatch_float(x.dtype(), [&]<class T>() { result = cpu::all_finite(x.data<T>(), x.elements()); });
  return result;
}

}  // namespace echo::kernels
