#include "training/gradient_buckets.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops.h"
#include "communication/thread_ranks.h"
#include "kernels/optimizer/square_sums.h"
#include "nn/model_io.h"
#include "tests/test_support.h"

namespace echo {
namespace {

constexpr int64_t kGroup = kernels::kSquareSumLength;

// Three parameters: 5 x 300, 7 and 2 x 600 elements.
class ThreeParameters : public Module {
 public:
  ThreeParameters() {
    add_parameter({{"a", 5}}, 300, {.dtype = DType::f32});
    add_parameter({{"b", 7}}, 0, {.dtype = DType::f32});
    add_parameter({{"c", 2}}, 600, {.dtype = DType::f32});
  }
  Variable& variable(size_t index) { return parameters()[index]->variable; }
};

// Adds a gradient to one parameter, with other values for each rank.
void add_gradient(Variable& variable, int64_t rank) {
  Tensor gradient = Tensor::empty_like(variable.data());
  for (int64_t i = 0; i < gradient.elements(); ++i)
    gradient.data<float>()[i] = float(std::sin(double(3 * i + 1) * double(rank + 1))) * (i % 5 == 0 ? 1e4f : 1.0f);
  scale(variable, 1.0).backward(gradient);
}

// What the ranks of a job would exchange, without exchanging it.
struct SilentRank : SingleProcess {
  int64_t world() const override { return 2; }
  std::unique_ptr<Exchange> start_all_reduce_sum(Tensor values) override {
    started.push_back(values.elements());
    return SingleProcess::start_all_reduce_sum(values);
  }
  std::vector<int64_t> started;
};

TEST(GradientBucketsTest, ABucketHoldsConsecutiveParametersAndSlicesBeginBetweenGroups) {
  ThreeParameters module;
  for (const int64_t world : {1, 2, 3}) {
    const std::vector<Bucket> buckets = make_buckets(module.parameters(), 3 * kGroup * 4, world);
    ASSERT_EQ(buckets.size(), 2u);
    ASSERT_EQ(buckets[0].parts.size(), 2u);
    EXPECT_EQ(buckets[0].parts[1].begin, 2 * kGroup);
    for (const Bucket& bucket : buckets) EXPECT_EQ(slice_of_rank(bucket.elements, world - 1, world).begin % kGroup, 0);
  }
  EXPECT_EQ(make_buckets(module.parameters(), 1, 2).size(), 3u) << "a parameter that is larger than a bucket is alone";
  EXPECT_EQ(make_buckets(module.parameters(), 1 << 20, 2).size(), 1u);
}

TEST(GradientBucketsTest, TheHeadComesFirstUnlessItIsTheEmbedding) {
  LlamaConfig config;
  config.vocab_size = 16, config.hidden_size = 8, config.intermediate_size = 8, config.num_hidden_layers = 2;
  config.num_attention_heads = config.num_key_value_heads = 2, config.head_dim = 4;
  for (const bool tied : {false, true}) {
    config.tie_word_embeddings = tied;
    const auto model = make_model(config, LeaderMap::own(2), {});
    std::vector<std::string> names;
    for (const Parameter* parameter : backward_order(*model)) names.push_back(parameter->parts.front().name);
    EXPECT_EQ(names.front(), tied ? "model.layers.1.mlp.down_proj.weight" : "lm_head.weight");
    EXPECT_EQ(names.back(), "model.embed_tokens.weight");
    EXPECT_EQ(names.size(), model->parameters().size());
  }
}

TEST(GradientBucketsTest, ExchangesStartInOrderDuringTheLastPassOnly) {
  ThreeParameters module;
  SilentRank ranks;
  GradientBuckets buckets(ranks, module.parameters(), {.bytes = 1});
  for (const size_t i : {0, 1, 2}) add_gradient(module.variable(i), 0);
  EXPECT_TRUE(ranks.started.empty()) << "an earlier micro-batch";
  buckets.start_in_next_pass();
  add_gradient(module.variable(1), 0);
  EXPECT_TRUE(ranks.started.empty()) << "the first bucket is not complete";
  add_gradient(module.variable(0), 0);
  EXPECT_EQ(ranks.started, (std::vector<int64_t>{2 * kGroup, 2 * kGroup}));
  buckets.finish();
  EXPECT_EQ(ranks.started.size(), 3u) << "what the pass has not reached is exchanged too";
  add_gradient(module.variable(0), 0);  // the first micro-batch of the next step
  EXPECT_EQ(ranks.started.size(), 3u);
}

TEST(GradientBucketsTest, AGradientThatChangesAfterItsExchangeBeganIsAFault) {
  ThreeParameters module;
  SilentRank ranks;
  GradientBuckets buckets(ranks, module.parameters(), {.bytes = 1});
  expect_check_fails("finish() without start_in_next_pass()", [&] { buckets.finish(); });
  buckets.start_in_next_pass();
  add_gradient(module.variable(0), 0);
  expect_check_fails("a second backward pass", [&] { add_gradient(module.variable(0), 0); });
}

struct Reduced {
  std::vector<std::vector<float>> gradients;  // by parameter
  double norm = 0;
};

// The gradients of all ranks, whose parameters get theirs in different orders, and rank 1 has none for the last one.
Reduced reduce(const BucketSettings& settings, int64_t world) {
  Reduced result;
  run_thread_ranks(world, [&](const std::shared_ptr<Communicator>& ranks) {
    ThreeParameters module;
    GradientBuckets buckets(*ranks, module.parameters(), settings);
    buckets.start_in_next_pass();
    std::vector<size_t> order = {0, 1, 2};
    if (ranks->rank() == 1) order = {1, 0};
    if (ranks->rank() == 2) order = {2, 1, 0};
    for (const size_t index : order) add_gradient(module.variable(index), ranks->rank());
    buckets.finish();
    const double norm = buckets.norm();
    for (size_t i = 0; i < buckets.buckets().size(); ++i)  // the slices of all ranks, if they were scattered
      ranks->start_all_gather_slices(buckets.gradients(i))->wait();
    if (!ranks->is_first()) return;
    result.norm = norm;
    for (Parameter* parameter : module.parameters())
      result.gradients.push_back(parameter->variable.gradient().to_vector<float>());
    buckets.clear();
    EXPECT_EQ(module.variable(1).gradient().to_vector<float>(), std::vector<float>(7, 0.0f));
  });
  return result;
}

TEST(GradientBucketsTest, NeitherTheirSizeNorScatteringNorTheOrderOfGradientsChangesABit) {
  for (const int64_t world : {2, 3}) {
    const Reduced whole = reduce({}, world);
    double squares = 0;
    for (const auto& gradient : whole.gradients)
      for (const float value : gradient) squares += double(value) * double(value);
    EXPECT_NEAR(whole.norm, std::sqrt(squares), 1e-13 * whole.norm);  // f64, another order of 2700 terms
    for (const int64_t bytes : {1, 3 * 4 * 1024, 1 << 20})
      for (const bool scatter : {false, true}) {
        const Reduced other = reduce({.bytes = bytes, .scatter = scatter}, world);
        EXPECT_EQ(other.gradients, whole.gradients) << bytes << " bytes, " << world << " ranks, scatter " << scatter;
        EXPECT_EQ(other.norm, whole.norm);
      }
  }
}

TEST(GradientBucketsTest, OnABfloat16WireEachRanksGradientIsRoundedOnceAndTheSumOnce) {
  const Reduced exact = reduce({}, 2), scattered = reduce({.bytes = 1, .bfloat16_wire = true, .scatter = true}, 2);
  const Reduced rounded = reduce({.bfloat16_wire = true}, 2);
  EXPECT_EQ(scattered.gradients, rounded.gradients);
  EXPECT_EQ(scattered.norm, rounded.norm);
  for (size_t i = 0; i < exact.gradients[0].size(); ++i) {
    const double limit = i % 5 == 0 ? 2e4 : 2.0;  // half a unit of 8 bits, of the two terms and of the sum
    EXPECT_NEAR(rounded.gradients[0][i], exact.gradients[0][i], 2 * limit / 256);
    EXPECT_EQ(rounded.gradients[0][i], float(bfloat16(rounded.gradients[0][i])));
  }
}

TEST(GradientBucketsTest, TheDestructorTakesStorageAndHooksAway) {
  ThreeParameters module;
  SilentRank ranks;
  {
    const GradientBuckets buckets(ranks, module.parameters(), {});
    EXPECT_TRUE(module.variable(0).gradient().defined());
  }
  EXPECT_FALSE(module.variable(0).gradient().defined());
  add_gradient(module.variable(0), 0);  // calls no hook of the object that is gone
}

}  // namespace
}  // namespace echo
