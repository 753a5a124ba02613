#include "autograd/shared_attention.h"

#include <gtest/gtest.h>

#include "kernels/cast.h"
#include "tests/autograd/rope_angles.h"
#include "tests/gradient_check.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Inputs = std::vector<Variable>;

constexpr double kTolerance = 1e-7;  // see gradient_check.h
constexpr int64_t kBatch = 2, kTokens = 5, kHeadDim = 4;

struct BlockCase {
  HeadCounts heads;
  int64_t layers;  // the leader and its followers
  bool documents;  // attention stops at document borders
  bool detach = false;
};

kernels::RopeTable rope_table() { return rope_table_of_steps(0.4, kTokens, kHeadDim / 2); }

Tensor first_keys(const BlockCase& block) {
  if (!block.documents) return {};
  return Tensor::from(std::vector<int32_t>{0, 0, 2, 2, 2, 0, 1, 1, 1, 4}, {kBatch, kTokens});
}

// The leader's fused projection, and for each follower a projection of the output before it.
std::vector<Tensor> inputs_of(const BlockCase& block) {
  const auto [heads, kv_heads, head_dim] = block.heads;
  std::vector<Tensor> inputs = {random_tensor({kBatch, kTokens, (heads + 2 * kv_heads) * head_dim}, DType::f64, 1)};
  for (int64_t i = 1; i < block.layers; ++i)
    inputs.push_back(random_tensor({kv_heads * head_dim, heads * head_dim}, DType::f64, uint64_t(i) + 1, 0.7));
  return inputs;
}

// A block as in a transformer: the values of each follower are computed from the previous output, and all outputs count.
Variable run_block(const Inputs& x, const AttentionBlock& own, const AttentionBlock& for_followers) {
  Variable last = own.output, total = own.output;
  for (size_t i = 1; i < x.size(); ++i) {
    last = follower_attention(tanh(linear(last, x[i])), for_followers);
    total = add(multiply(total, last), last);
  }
  return total;
}

DifferentiableFunction function_of(const BlockCase& block) {
  return [block](const Inputs& x) {
    const AttentionBlock leader =
        leader_attention(x[0], InputMemory::keep, block.heads, rope_table(), first_keys(block), block.detach);
    return run_block(x, leader, leader);
  };
}

TEST(SharedAttentionTest, GradientsOfBlocksOfOneToFiveLayersMatchFiniteDifferences) {
  for (const HeadCounts& heads : {HeadCounts{2, 2, kHeadDim}, HeadCounts{4, 2, kHeadDim}, HeadCounts{8, 1, kHeadDim}})
    for (int64_t layers = 1; layers <= 5; ++layers)
      for (const bool documents : {false, true}) {
        SCOPED_TRACE(concat(heads.heads, ":", heads.kv_heads, " heads, ", layers, " layers, documents ", documents));
        const BlockCase block{heads, layers, documents};
        expect_gradients_match(function_of(block), inputs_of(block), kTolerance, /*entries=*/12);
      }
}

TEST(SharedAttentionTest, EveryEntryOfABlockOfThreeMatchesFiniteDifferences) {
  const BlockCase block{{4, 2, kHeadDim}, 3, true};
  expect_gradients_match(function_of(block), inputs_of(block), kTolerance);
}

// With detach_shared the gradient is that of a graph in which followers see the matrix of the unchanged inputs as a constant.
TEST(SharedAttentionTest, DetachedFollowersSeeAConstantMatrix) {
  for (int64_t layers = 1; layers <= 4; ++layers) {
    SCOPED_TRACE(layers);
    const BlockCase block{{4, 2, kHeadDim}, layers, true, /*detach=*/true};
    const std::vector<Tensor> inputs = inputs_of(block);
    const AttentionBlock fixed =
        leader_attention(Variable(inputs[0]), InputMemory::keep, block.heads, rope_table(), first_keys(block));
    const DifferentiableFunction reference = [&](const Inputs& x) {
      return run_block(x, leader_attention(x[0], InputMemory::keep, block.heads, rope_table(), first_keys(block)), fixed);
    };
    expect_gradients_match(function_of(block), reference, inputs, kTolerance, /*entries=*/40);
  }
}

TEST(SharedAttentionTest, ALeaderWhoseOwnOutputIsUnusedStillGetsItsFollowersGradient) {
  const HeadCounts heads{4, 2, kHeadDim};
  const auto function = [&](const Inputs& x) {
    const AttentionBlock block = leader_attention(x[0], InputMemory::keep, heads, rope_table());
    const Variable first = follower_attention(x[1], block), second = follower_attention(tanh(x[1]), block);
    return multiply(first, second);
  };
  expect_gradients_match(function,
                         {random_tensor({kBatch, kTokens, 8 * kHeadDim}, DType::f64, 1),
                          random_tensor({kBatch, kTokens, 2 * kHeadDim}, DType::f64, 2)},
                         kTolerance, 60);
}

TEST(SharedAttentionTest, AFollowerOutsideTheLossContributesNothing) {
  const BlockCase block{{4, 2, kHeadDim}, 1, false};
  const auto function = [&](const Inputs& x) {
    const AttentionBlock leader = leader_attention(x[0], InputMemory::keep, block.heads, rope_table());
    const Variable unused =
        follower_attention(Variable(random_tensor({kBatch, kTokens, 2 * kHeadDim}, DType::f64, 3), true), leader);
    return leader.output;
  };
  expect_gradients_match(function, inputs_of(block), kTolerance, 40);
}

TEST(SharedAttentionTest, FollowersOfAFrozenLeaderLeaveNothingBehind) {
  const HeadCounts heads{4, 2, kHeadDim};
  const AttentionBlock block = leader_attention(Variable(random_tensor({kBatch, kTokens, 8 * kHeadDim}, DType::f64, 1)),
                                                InputMemory::keep, heads, rope_table());
  expect_gradients_match([&](const Inputs& x) { return follower_attention(x[0], block); },
                         {random_tensor({kBatch, kTokens, 2 * kHeadDim}, DType::f64, 2)}, kTolerance);
  EXPECT_TRUE(block.shared->layers.empty());
}

TEST(SharedAttentionTest, TheStateIsFreedWithTheGraph) {
  std::weak_ptr<SharedProbabilities> watch;
  {
    const BlockCase block{{2, 2, kHeadDim}, 3, false};
    Inputs leaves;
    for (const Tensor& input : inputs_of(block)) leaves.emplace_back(input, true);
    AttentionBlock leader = leader_attention(leaves[0], InputMemory::keep, block.heads, rope_table());
    watch = leader.shared;
    Variable loss = sum(run_block(leaves, leader, leader));
    leader = AttentionBlock();
    EXPECT_FALSE(watch.expired());
    loss.backward();
    EXPECT_TRUE(watch.expired());  // during the pass, while `loss` still lives
  }
}

// The bits are the same in both modes. Only with `overwrite` are the rotated queries and keys in the input's memory.
TEST(SharedAttentionTest, TheInputIsOverwrittenOnlyWhenTheCallerSaysSo) {
  const HeadCounts heads{4, 2, kHeadDim};
  const Tensor original = random_tensor({kBatch, kTokens, 8 * kHeadDim}, DType::f32, 1);
  kernels::RopeTable table = rope_table();
  table = {kernels::cast(table.cosine, DType::f32), kernels::cast(table.sine, DType::f32)};
  const Variable kept(original.clone()), overwritten(original.clone());
  const AttentionBlock from_kept = leader_attention(kept, InputMemory::keep, heads, table),
                       from_overwritten = leader_attention(overwritten, InputMemory::overwrite, heads, table);
  EXPECT_EQ(kept.data().to_vector<float>(), original.to_vector<float>());
  EXPECT_NE(overwritten.data().to_vector<float>(), original.to_vector<float>());
  EXPECT_EQ(from_overwritten.shared->q.raw_data(), overwritten.data().raw_data());
  EXPECT_EQ(from_kept.output.data().to_vector<float>(), from_overwritten.output.data().to_vector<float>());
}

TEST(SharedAttentionTest, WhatDoesNotFitIsRefused) {
  const HeadCounts heads{4, 2, kHeadDim};
  const auto qkv = [](const Shape& shape, DType dtype = DType::f64) { return Variable(Tensor::zeros(shape, dtype)); };
  expect_check_fails("qkv is (2, 5, 30), expected (B, T, 32)", [&] {
    leader_attention(qkv({2, 5, 30}), InputMemory::keep, heads, rope_table());
  });
  expect_check_fails("qkv is (10, 32)", [&] { leader_attention(qkv({10, 32}), InputMemory::keep, heads, rope_table()); });
  expect_check_fails("the table has 5", [&] { leader_attention(qkv({2, 6, 32}), InputMemory::keep, heads, rope_table()); });
  expect_check_fails("3 heads are not a multiple of 2", [&] {
    leader_attention(qkv({2, 5, 28}), InputMemory::keep, {3, 2, kHeadDim}, rope_table());
  });
  expect_check_fails("first_key", [&] {
    leader_attention(qkv({2, 5, 32}), InputMemory::keep, heads, rope_table(),
                     Tensor::from(std::vector<int32_t>(10, 1), {2, 5}));
  });
  const AttentionBlock block = leader_attention(qkv({2, 5, 32}), InputMemory::keep, heads, rope_table());
  expect_check_fails("v is (2, 5, 16), expected (2, 5, 8)", [&] { follower_attention(qkv({2, 5, 16}), block); });
  expect_check_fails("must be f64 on cpu, got f32", [&] { follower_attention(qkv({2, 5, 8}, DType::f32), block); });
}

}  // namespace
}  // namespace echo
