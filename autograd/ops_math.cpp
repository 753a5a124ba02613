#include "autograd/gradient_target.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/cast.h"
#include "kernels/elementwise.h"
#include "kernels/matmul/matmul.h"
#include "kernels/reduce.h"

namespace echo {

using kernels::Transpose;

Variable add(const Variable& a, const Variable& b) {
  Tensor y = Tensor::empty_like(a.data());
  kernels::add(y, a.data(), b.data());
  return record("add", {a, b}, y, [](const Tensor& dy) -> Gradients { return {dy, dy}; });
}

Variable subtract(const Variable& a, const Variable& b) {
  Tensor y = Tensor::empty_like(a.data());
  kernels::subtract(y, a.data(), b.data());
  return record("subtract", {a, b}, y, [](const Tensor& dy) -> Gradients {
    Tensor db = Tensor::empty_like(dy);
    kernels::scale(db, dy, -1.0);
    return {dy, db};
  });
}

Variable multiply(const Variable& a, const Variable& b) {
  Tensor y = Tensor::empty_like(a.data());
  kernels::multiply(y, a.data(), b.data());
  return record("multiply", {a, b}, y, [a = a.data(), b = b.data()](const Tensor& dy) -> Gradients {
    Tensor da = Tensor::empty_like(dy), db = Tensor::empty_like(dy);
    kernels::multiply(da, dy, b);
    kernels::multiply(db, dy, a);
    return {da, db};
  });
}

Variable scale(const Variable& x, double factor) {
  Tensor y = Tensor::empty_like(x.data());
  kernels::scale(y, x.data(), factor);
  return record("scale", {x}, y, [factor](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(dy);
    kernels::scale(dx, dy, factor);
    return {dx};
  });
}

Variable square(const Variable& x) {
  Tensor y = Tensor::empty_like(x.data());
  kernels::square(y, x.data());
  return record("square", {x}, y, [x = x.data()](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(dy);
    kernels::multiply(dx, dy, x);
    kernels::scale(dx, dx, 2.0);
    return {dx};
  });
}

Variable tanh(const Variable& x) {
  Tensor y = Tensor::empty_like(x.data());
  kernels::tanh_forward(y, x.data());
  return record("tanh", {x}, y, [y](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(y);
    kernels::tanh_backward(dx, dy, y);
    return {dx};
  });
}

Variable sum(const Variable& x) {
  Tensor y = Tensor::full({1}, kernels::sum(x.data()), x.dtype(), x.data().device());
  return record("sum", {x}, y, [shape = x.shape(), dtype = x.dtype()](const Tensor& dy) -> Gradients {
    return {Tensor::full(shape, dy.item(), dtype, dy.device())};
  });
}

Variable mean(const Variable& x) { return scale(sum(x), 1.0 / double(x.data().elements())); }

Variable matmul(const Variable& a, const Variable& b) {
  ECHO_CHECK(a.data().rank() == 2 && b.data().rank() == 2, "matmul: a ", a.shape(), " x b ", b.shape(), ", expected rank 2");
  Tensor y = Tensor::empty({a.shape()[0], b.shape()[1]}, a.dtype(), a.data().device());
  kernels::matmul(y, a.data(), Transpose::no, b.data(), Transpose::no);
  return record("matmul", {a, b}, y, [a = a.data(), b = b.data()](const Tensor& dy) -> Gradients {
    Tensor da = Tensor::empty_like(a), db = Tensor::empty_like(b);
    kernels::matmul(da, dy, Transpose::no, b, Transpose::yes);
    kernels::matmul(db, a, Transpose::yes, dy, Transpose::no);
    return {da, db};
  });
}

Variable add_bias(const Variable& x, const Variable& bias) {
  Tensor y = Tensor::empty_like(x.data());
  kernels::add_bias(y, x.data(), bias.data());
  return record("add_bias", {x, bias}, y, [bias](const Tensor& dy) -> Gradients {
    if (!bias.requires_gradient()) return {dy, Tensor()};
    GradientTarget d_bias(bias);
    kernels::sum_rows(d_bias.tensor(), dy, d_bias.mode());
    return {dy, d_bias.result()};
  });
}

Variable cast(const Variable& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  return record("cast", {x}, kernels::cast(x.data(), dtype),
                [dtype = x.dtype()](const Tensor& dy) -> Gradients { return {kernels::cast(dy, dtype)}; });
}

}  // namespace echo
