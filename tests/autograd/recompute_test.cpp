#include "autograd/recompute.h"

#include <gtest/gtest.h>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "autograd/shared_attention.h"
#include "tensor/allocator.h"
#include "tests/autograd/rope_angles.h"
#include "tests/gradient_check.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Variables = std::vector<Variable>;

constexpr int64_t kTokens = 24, kWidth = 32;
const HeadCounts kHeads{4, 2, 8};

// A sharing block of a leader and two followers around a residual stream, as in a model. Its parameters are captured.
struct SharingBlock {
  explicit SharingBlock(DType activations, uint64_t seed)
      : table(rope_table_of_steps(0.1, kTokens, kHeads.head_dim / 2, accumulator_dtype(activations))) {
    const DType dtype = accumulator_dtype(activations);
    norm = Variable(Tensor::full({kWidth}, 1, dtype), true);
    qkv = Variable(random_tensor({64, kWidth}, dtype, seed, 0.2), true);
    for (uint64_t i = 0; i < 2; ++i) value[i] = Variable(random_tensor({16, kWidth}, dtype, seed + i + 1, 0.2), true);
  }
  Variables parameters() const { return {norm, qkv, value[0], value[1]}; }
  Variables operator()(const Variables& inputs) const {
    Variable x = inputs[0];
    const AttentionBlock leader = leader_attention(linear(rms_norm(x, norm, 1e-5), qkv), InputMemory::overwrite, kHeads, table);
    x = add(x, leader.output);
    for (const Variable& weight : value) x = add(x, follower_attention(linear(rms_norm(x, norm, 1e-5), weight), leader));
    return {x, scale(x, 0.5)};
  }
  kernels::RopeTable table;
  Variable norm, qkv, value[2];
};

struct Outcome {
  std::vector<Tensor> gradients;
  int64_t peak = 0;
};

Outcome run(DType dtype, bool recomputes) {
  const ThreadCount threads(1);  // hundreds of operations that are too small for two threads
  std::vector<SharingBlock> blocks;
  for (uint64_t i = 0; i < 8; ++i) blocks.emplace_back(dtype, 10 * i + 1);
  const Variable x(random_tensor({4, kTokens, kWidth}, dtype, 5), true);
  const auto in_use = [] { return CpuAllocator::instance().statistics().in_use; };
  const int64_t start = in_use();
  CpuAllocator::instance().reset_peak();
  Variable stream = x;
  for (const SharingBlock& block : blocks) stream = recomputes ? with_recompute(block, {stream})[0] : block({stream})[0];
  sum(square(stream)).backward();
  Outcome result;
  result.peak = CpuAllocator::instance().statistics().peak - start;
  result.gradients.push_back(x.gradient().clone());
  for (const SharingBlock& block : blocks)
    for (const Variable& parameter : block.parameters()) result.gradients.push_back(parameter.gradient().clone());
  return result;
}

TEST(RecomputeTest, GradientsOfSharingBlocksAreTheSameBitsWithLessMemory) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Outcome plain = run(dtype, false), recomputed = run(dtype, true);
    ASSERT_EQ(plain.gradients.size(), recomputed.gradients.size());
    for (size_t i = 0; i < plain.gradients.size(); ++i) {
      EXPECT_GT(largest_magnitude(plain.gradients[i]), 0);
      if (dtype == DType::bf16) {
        // The input of a recomputed block sums its gradients in f32 before the rounding to bf16: more exact, but not equal.
        EXPECT_LT(largest_difference(plain.gradients[i], recomputed.gradients[i]),
                  0.03 * largest_magnitude(plain.gradients[i]));
      } else {
        EXPECT_EQ(largest_difference(plain.gradients[i], recomputed.gradients[i]), 0) << dtype << " " << i;
      }
    }
    // The activations of one block and the ends of eight, instead of the activations of eight blocks. Gradients are the same in
    // both.
    EXPECT_LT(recomputed.peak, plain.peak * 6 / 10) << dtype;
  }
}

TEST(RecomputeTest, GradientsMatchFiniteDifferences) {
  const auto function = [](const Variables& x) {
    const Variable weight = x[1];
    const Block inner = [weight](const Variables& y) { return Variables{tanh(linear(y[0], weight)), square(y[0])}; };
    const Block outer = [inner](const Variables& y) {
      const Variables z = with_recompute(inner, {multiply(y[0], y[1])});  // nested
      return Variables{add(z[0], z[1]), z[1]};
    };
    const Variables result = with_recompute(outer, {x[0], tanh(x[0])});
    return add(result[0], square(result[1]));
  };
  expect_gradients_match(function, {random_tensor({3, 4}, DType::f64, 1), random_tensor({4, 4}, DType::f64, 2)}, 1e-7);
}

TEST(RecomputeTest, OutputsThatAreInputsOrUnusedAreRight) {
  const Block block = [](const Variables& x) { return Variables{x[0], square(x[1]), tanh(x[0])}; };
  expect_gradients_match(
      [&](const Variables& x) {
        const Variables y = with_recompute(block, {scale(x[0], 2), x[1]});
        return multiply(y[0], y[1]);  // the third is unused
      },
      {random_tensor({3}, DType::f64, 1), random_tensor({3}, DType::f64, 2)}, 1e-7);
}

TEST(RecomputeTest, ParametersAloneMakeABlockWorthRecording) {
  const Variable weight(random_tensor({3}, DType::f64, 1), true), x(random_tensor({3}, DType::f64, 2));
  const Block block = [weight](const Variables& inputs) { return Variables{multiply(inputs[0], weight)}; };
  sum(with_recompute(block, {x})[0]).backward();
  EXPECT_EQ(largest_difference(weight.gradient(), x.data()), 0);
  EXPECT_FALSE(x.gradient().defined());
  const Block frozen = [](const Variables& inputs) { return Variables{square(inputs[0])}; };
  EXPECT_FALSE(with_recompute(frozen, {x})[0].requires_gradient());
  const NoGrad no_grad;
  EXPECT_FALSE(with_recompute(block, {x})[0].requires_gradient());
}

TEST(RecomputeTest, TheBlockRunsAgainOnlyInBackward) {
  int runs = 0;
  const Variable x(random_tensor({3}, DType::f64, 1), true);
  const Block block = [&runs](const Variables& inputs) {
    ++runs;
    return Variables{tanh(inputs[0])};
  };
  Variable y = sum(with_recompute(block, {x})[0]);
  EXPECT_EQ(runs, 1);
  y.backward();
  EXPECT_EQ(runs, 2);
  { const Variable dropped = with_recompute(block, {x})[0]; }
  EXPECT_EQ(runs, 3);
}

TEST(RecomputeTest, AnExceptionDuringRecomputationPassesThrough) {
  const int64_t start = CpuAllocator::instance().statistics().in_use;
  {
    int runs = 0;
    Variable x(random_tensor({3}, DType::f64, 1), true);
    const Block block = [&runs](const Variables& inputs) {
      const Variable result = tanh(inputs[0]);
      ECHO_CHECK(++runs == 1, "the second run fails");
      return Variables{result};
    };
    Variable y = sum(with_recompute(block, {x})[0]);
    EXPECT_NE(error_message(ExitCode::internal, [&] { y.backward(); }).find("the second run fails"), std::string::npos);
    EXPECT_FALSE(NoGrad::is_active());
    sum(square(x)).backward();
    EXPECT_TRUE(x.gradient().defined());
  }
  EXPECT_EQ(CpuAllocator::instance().statistics().in_use, start);
}

}  // namespace
}  // namespace echo
