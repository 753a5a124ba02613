// An operation of your own: softplus(x) = log(1 + e^x), with its gradient, checked by finite differences.
//   make examples && build/*/bin/examples/custom_operation
// An operation computes its output from tensors. It gives record() a function from the output's gradient to the inputs'
// gradients.
#include <cmath>
#include <cstdio>
#include <vector>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "base/program.h"

using namespace echo;

namespace {

// y = log(1 + e^x), element by element. x: any floating dtype, contiguous.
Variable softplus(const Variable& x) {
  Tensor y = Tensor::empty_like(x.data());
  dispatch_float(x.dtype(), [&]<class T>() {
    using A = accumulator<T>;  // f32 for bf16, rounded once at the end
    const T* input = x.data().data<T>();
    T* output = y.data<T>();
    for (int64_t i = 0; i < y.elements(); ++i) {
      const A value = A(input[i]);
      output[i] = T(std::max(value, A(0)) + std::log1p(std::exp(-std::abs(value))));  // e^x alone would overflow
    }
  });
  // dx = dy / (1 + e^-x). The function captures the tensor x by value, which keeps it until the backward pass has used it.
  return record("softplus", {x}, y, [x = x.data()](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(x);
    dispatch_float(x.dtype(), [&]<class T>() {
      using A = accumulator<T>;
      for (int64_t i = 0; i < x.elements(); ++i)
        dx.data<T>()[i] = T(A(dy.data<T>()[i]) / (A(1) + std::exp(-A(x.data<T>()[i]))));
    });
    return {dx};
  });
}

// The largest difference between the gradient of sum(softplus(x)^2) from backward() and central differences, in f64.
double largest_gradient_error() {
  const std::vector<double> points = {-30, -2, -0.5, 0, 0.7, 3, 30};
  const auto value = [](const Variable& x) { return sum(square(softplus(x))); };
  const Variable x(Tensor::from(points), /*requires_gradient=*/true);
  value(x).backward();

  const NoGrad no_grad;
  constexpr double kStep = 1e-5;
  double largest = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    std::vector<double> above = points, below = points;
    above[i] += kStep;
    below[i] -= kStep;
    const double difference =
        (value(Variable(Tensor::from(above))).data().item() - value(Variable(Tensor::from(below))).data().item()) / (2 * kStep);
    const double gradient = x.gradient().data<double>()[i];
    std::printf("x %6.2f  gradient %12.8f  difference %12.8f\n", points[i], gradient, difference);
    largest = std::max(largest, std::abs(gradient - difference));
  }
  return largest;
}

}  // namespace

int main() {
  return run_program([] {
    const double error = largest_gradient_error();
    std::printf("largest error %.1e\n", error);
    return error < 1e-6 ? 0 : 1;  // values near 1000 have an error of 1e-13, which is 1e-8 after division by the step
  });
}
