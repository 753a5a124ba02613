#include "training/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "autograd/ops.h"
#include "tests/test_support.h"
#include "tests/training/optimizer_state.h"
#include "weight_files/safetensors.h"

namespace echo {
namespace {

// A fused matrix of two named parts and a vector.
class TwoParameters : public Module {
 public:
  TwoParameters() {
    matrix = add_parameter({{"query.weight", 2}, {"key.weight", 3}}, 4, {.dtype = DType::f32});
    vector = add_parameter({{"norm.weight", 5}}, 0, {.dtype = DType::f32});
    initialize(*this, 0.5, /*seed=*/3);
  }
  Variable matrix, vector;
};

// A gradient that depends on the step, the parameter and the element.
void set_gradients(TwoParameters& module, int64_t step) {
  int64_t index = 0;
  for (Parameter* parameter : module.parameters()) {
    Tensor gradient = Tensor::empty_like(parameter->variable.data());
    for (int64_t i = 0; i < gradient.elements(); ++i)
      gradient.data<float>()[i] = float(std::sin(double(1 + step * 31 + index * 7 + i)));
    parameter->variable.clear_gradient();
    scale(parameter->variable, 1.0).backward(gradient);
    ++index;
  }
}

void take_steps(TwoParameters& module, AdamW& optimizer, int64_t first, int64_t last) {
  for (int64_t step = first; step < last; ++step) {
    set_gradients(module, step);
    optimizer.step(0.01 * double(step + 1), optimizer.gradient_norm());
    optimizer.clear_gradients();
  }
}

void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  EXPECT_EQ(std::memcmp(a.data<float>(), b.data<float>(), size_t(a.elements()) * sizeof(float)), 0);
}

TEST(OptimizerTest, StoredAndRestoredMomentsContinueBitForBit) {
  const TemporaryFolder folder;
  const OptimizerSettings settings{.weight_decay = 0.1};
  TwoParameters whole, resumed;
  AdamW whole_optimizer(whole, settings);
  take_steps(whole, whole_optimizer, 0, 3);
  // The weights continue unchanged, the optimizer through a file.
  std::memcpy(resumed.matrix.data().data<float>(), whole.matrix.data().data<float>(), 20 * sizeof(float));
  std::memcpy(resumed.vector.data().data<float>(), whole.vector.data().data<float>(), 5 * sizeof(float));
  write_safetensors(folder / "optimizer.safetensors", stored_state(whole_optimizer));
  AdamW resumed_optimizer(resumed, settings);
  resumed_optimizer.restore(SafetensorsReader(folder / "optimizer.safetensors"), whole_optimizer.steps());
  EXPECT_EQ(resumed_optimizer.steps(), 3);

  take_steps(whole, whole_optimizer, 3, 6);
  take_steps(resumed, resumed_optimizer, 3, 6);
  expect_same_bits(whole.matrix.data(), resumed.matrix.data());
  expect_same_bits(whole.vector.data(), resumed.vector.data());
  const NamedTensors a = stored_state(whole_optimizer), b = stored_state(resumed_optimizer);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    expect_same_bits(a[i].second.contiguous(), b[i].second.contiguous());
  }
}

TEST(OptimizerTest, MomentsAreStoredUnderTheNamesOfTheParts) {
  TwoParameters module;
  AdamW optimizer(module, {});
  EXPECT_TRUE(optimizer.state().empty());  // before the first step
  take_steps(module, optimizer, 0, 1);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : stored_state(optimizer)) names.push_back(name + " " + concat(tensor.shape()));
  EXPECT_EQ(names, (std::vector<std::string>{"query.weight.first_moment (2, 4)", "key.weight.first_moment (3, 4)",
                                             "query.weight.second_moment (2, 4)", "key.weight.second_moment (3, 4)",
                                             "norm.weight.first_moment (5)", "norm.weight.second_moment (5)"}));
}

TEST(OptimizerTest, AMissingMomentIsNamed) {
  const TemporaryFolder folder;
  TwoParameters module;
  AdamW optimizer(module, {});
  take_steps(module, optimizer, 0, 1);
  NamedTensors state = stored_state(optimizer);
  state.pop_back();
  write_safetensors(folder / "optimizer.safetensors", state);
  AdamW other(module, {});
  const SafetensorsReader reader(folder / "optimizer.safetensors");
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { other.restore(reader, 1); }).find("norm.weight.second_moment"),
            std::string::npos);
}

TEST(OptimizerTest, WeightDecayShrinksMatricesAndLeavesVectors) {
  TwoParameters module;
  const float matrix = module.matrix.data().data<float>()[0], vector = module.vector.data().data<float>()[0];
  for (Parameter* parameter : module.parameters())
    scale(parameter->variable, 0.0).backward(Tensor::zeros_like(parameter->variable.data()));
  AdamW optimizer(module, {.weight_decay = 0.5});
  optimizer.step(/*learning_rate=*/0.1, optimizer.gradient_norm());
  EXPECT_FLOAT_EQ(module.matrix.data().data<float>()[0], matrix * (1 - 0.1f * 0.5f));
  EXPECT_EQ(module.vector.data().data<float>()[0], vector);
}

TEST(OptimizerTest, TheFirstStepMovesEveryElementByTheLearningRateWhateverTheNorm) {
  // m / sqrt(v) is the gradient's sign in the first step; clipping scales both alike. epsilon, 1e-8, is far below them.
  for (const double limit : {0.0, 0.5}) {
    TwoParameters module;
    const Tensor before = module.matrix.data().clone();
    set_gradients(module, 0);
    const Tensor gradient = module.matrix.gradient().clone();
    AdamW optimizer(module, {.max_grad_norm = limit});
    EXPECT_GT(optimizer.gradient_norm(), 0.5);
    optimizer.step(0.01, optimizer.gradient_norm());
    for (int64_t i = 0; i < before.elements(); ++i)
      EXPECT_NEAR(module.matrix.data().data<float>()[i] - before.data<float>()[i], gradient.data<float>()[i] > 0 ? -0.01 : 0.01,
                  1e-6);
  }
}

}  // namespace
}  // namespace echo
