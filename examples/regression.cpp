// Fits a curve: a network of 32 tanh units learns sin(3x) on [-1, 1] from 64 points.
//   make examples && build/*/bin/examples/regression
// Shows the whole library in one loop: variables, operations, backward() and an optimizer step.
#include <cmath>
#include <cstdio>
#include <vector>

#include "autograd/ops.h"
#include "base/program.h"
#include "base/random.h"
#include "kernels/optimizer/adamw.h"

using namespace echo;

namespace {

// A trainable matrix of normally distributed values times `size`.
Variable parameter(const Shape& shape, double size, uint64_t seed) {
  RandomSequence random(seed);
  std::vector<float> values(size_t(shape.elements()));
  for (float& value : values) value = float(size * random.normal());
  return Variable(Tensor::from(values, shape), /*requires_gradient=*/true);
}

int fit() {
  constexpr int64_t kPoints = 64, kHidden = 32;
  constexpr int kSteps = 500;
  std::vector<float> inputs, targets;
  for (int i = 0; i < kPoints; ++i) {
    inputs.push_back(2.0f * float(i) / float(kPoints - 1) - 1.0f);
    targets.push_back(std::sin(3.0f * inputs.back()));
  }
  const Variable x(Tensor::from(inputs, {kPoints, 1})), y(Tensor::from(targets, {kPoints, 1}));

  std::vector<Variable> parameters = {parameter({kHidden, 1}, 2.0, 1), parameter({kHidden}, 1.0, 2),
                                      parameter({1, kHidden}, 0.2, 3), parameter({1}, 0.0, 4)};
  std::vector<Tensor> first_moments, second_moments;
  for (const Variable& p : parameters) {
    first_moments.push_back(Tensor::zeros_like(p.data()));
    second_moments.push_back(Tensor::zeros_like(p.data()));
  }

  double first_loss = 0, loss_value = 0;
  for (int step = 1; step <= kSteps; ++step) {
    const Variable hidden = tanh(add_bias(linear(x, parameters[0]), parameters[1]));    // (64, 32)
    const Variable predicted = add_bias(linear(hidden, parameters[2]), parameters[3]);  // (64, 1)
    Variable loss = mean(square(subtract(predicted, y)));
    loss.backward();

    std::vector<kernels::AdamWSpan> spans;
    for (size_t i = 0; i < parameters.size(); ++i)
      spans.push_back({parameters[i].data(), parameters[i].gradient(), first_moments[i], second_moments[i]});
    kernels::adamw(spans, {.learning_rate = 0.02, .step = step});
    for (Variable& p : parameters) p.clear_gradient();

    loss_value = loss.data().item();
    if (step == 1) first_loss = loss_value;
    if (step == 1 || step % 100 == 0) std::printf("step %3d  mean squared error %.6f\n", step, loss_value);
  }
  return loss_value < 1e-3 && loss_value < first_loss / 100 ? 0 : 1;  // otherwise it did not learn the curve
}

}  // namespace

int main() { return run_program(fit); }
