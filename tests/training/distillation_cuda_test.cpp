// A distillation step in bf16 on a GPU: heads wide enough for the tensor-core kernels, followers, and both stages' losses.
#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"
#include "nn/model_io.h"
#include "tests/kernels/cuda_parity.h"
#include "tests/test_support.h"
#include "training/distillation.h"
#include "training/optimizer.h"

namespace echo {
namespace {

constexpr int64_t kLayers = 4, kRows = 2, kLength = 70, kVocabulary = 96;  // a sequence is longer than a tile of 64

LlamaConfig config_with_heads_of(int64_t head_dim) {
  LlamaConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_hidden_layers = kLayers;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = head_dim;
  return config;
}

Batch random_batch() {
  Batch batch;
  batch.rows = kRows;
  batch.sequence_length = kLength;
  RandomSequence random(7);
  for (int64_t i = 0; i < kRows * kLength; ++i) {
    batch.inputs.push_back(int32_t(random.below(kVocabulary)));
    batch.labels.push_back(i % 9 == 4 ? kIgnoredLabel : int32_t(random.below(kVocabulary)));
    batch.valid_tokens += batch.labels.back() != kIgnoredLabel;
  }
  return batch;
}

struct Step {
  LossSums sums;
  std::vector<Tensor> gradients, parameters;  // on the CPU
};

// One step: gradients, then parameters after an update.
Step step_on(Device device, DType compute_dtype, int64_t head_dim, bool recompute) {
  const DType dtype = accumulator_dtype(compute_dtype);
  const auto student = make_model(config_with_heads_of(head_dim), LeaderMap({0, 1, 1, 1}), {dtype, true, device});
  const auto teacher = make_model(config_with_heads_of(head_dim), LeaderMap::own(kLayers), {compute_dtype, false, device});
  initialize(*student, 0.1, 1);
  initialize(*teacher, 0.1, 2);
  student->keep_compute_copies(compute_dtype);
  ForwardOptions options;
  options.compute_dtype = compute_dtype;
  options.recompute = recompute;
  const Batch batch = random_batch();
  Step step;
  step.sums = accumulate_gradients(*student, teacher.get(), batch, stage_loss({}), options, batch.valid_tokens);
  for (const Parameter* parameter : student->parameters())
    step.gradients.push_back(parameter->variable.gradient().to(Device{}));
  AdamW optimizer(*student, {});
  optimizer.step(1e-3, optimizer.gradient_norm());
  for (const Parameter* parameter : student->parameters()) {
    step.parameters.push_back(parameter->variable.data().to(Device{}));
    if (!parameter->variable.compute_copy().defined()) continue;
    // The copy for products is the updated parameter, rounded.
    EXPECT_EQ(largest_difference(parameter->variable.compute_copy(), kernels::cast(step.parameters.back(), compute_dtype)), 0);
  }
  return step;
}

double error_of(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected) {
  double squares = 0, power = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const std::vector<double> a = values_of(actual[i]), e = values_of(expected[i]);
    for (size_t j = 0; j < a.size(); ++j) {
      squares += (a[j] - e[j]) * (a[j] - e[j]);
      power += e[j] * e[j];
    }
  }
  return std::sqrt(squares / power);
}

class CudaDistillationTest : public testing::TestWithParam<std::pair<int64_t, bool>> {};

// The CPU's bf16 step shows the cost of rounding. A GPU, which rounds at other places, may be twice as far from f64.
TEST_P(CudaDistillationTest, ABf16StepIsAsCloseToF64AsTheCpuIs) {
  const auto [head_dim, recompute] = GetParam();
  const Step oracle = step_on({}, DType::f64, head_dim, recompute), cpu = step_on({}, DType::bf16, head_dim, recompute);
  const Step gpu = step_on(kCuda, DType::bf16, head_dim, recompute);
  const double cpu_error = error_of(cpu.gradients, oracle.gradients), gpu_error = error_of(gpu.gradients, oracle.gradients);
  EXPECT_LT(gpu_error, 2 * cpu_error);
  EXPECT_GT(gpu_error, 1e-5) << "was not computed in bf16";
  EXPECT_NEAR(gpu.sums.loss / oracle.sums.loss, 1, 2 * std::abs(cpu.sums.loss / oracle.sums.loss - 1) + 1e-3);
  EXPECT_EQ(gpu.sums.tokens, cpu.sums.tokens);
}

TEST_P(CudaDistillationTest, TheSameStepTwiceHasTheSameBits) {
  const auto [head_dim, recompute] = GetParam();
  const Step first = step_on(kCuda, DType::bf16, head_dim, recompute);
  const ScopedEnvironment order("CUDA_EMULATION_ORDER", "random:11");
  const Step second = step_on(kCuda, DType::bf16, head_dim, recompute);
  EXPECT_EQ(first.sums.loss, second.sums.loss);
  for (size_t i = 0; i < first.parameters.size(); ++i)
    EXPECT_EQ(0,
              std::memcmp(first.parameters[i].raw_data(), second.parameters[i].raw_data(), size_t(first.parameters[i].bytes())))
        << "parameter " << i;
}

// f32 sums in another order, through four layers.
TEST_P(CudaDistillationTest, AnF32StepEqualsF64) {
  const auto [head_dim, recompute] = GetParam();
  const Step oracle = step_on({}, DType::f64, head_dim, recompute), gpu = step_on(kCuda, DType::f32, head_dim, recompute);
  EXPECT_LT(error_of(gpu.gradients, oracle.gradients), 1e-5);
  EXPECT_NEAR(gpu.sums.loss / oracle.sums.loss, 1, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Heads, CudaDistillationTest,
                         testing::Values(std::pair(64, false), std::pair(64, true), std::pair(24, false)));

}  // namespace
}  // namespace echo
