#include <algorithm>
#include <numeric>
#include <thread>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "nn/generator.h"
#include "nn/language_model.h"
#include "nn/model_io.h"
#include "tensor/allocator.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

LlamaConfig small_config(bool tied = false) {
  LlamaConfig config;
  config.vocab_size = 40, config.hidden_size = 24, config.intermediate_size = 36, config.num_hidden_layers = 5;
  config.num_attention_heads = 6, config.num_key_value_heads = 2, config.head_dim = 6, config.max_position_embeddings = 64;
  config.tie_word_embeddings = tied;
  return config;
}

const LeaderMap kShared({0, 1, 1, 3, 1});  // layer 4 follows layer 1; layer 3 between them has its own matrix

std::unique_ptr<LanguageModel> small_model(const LeaderMap& map, DType dtype, bool tied = false) {
  auto model = make_model(small_config(tied), map, {dtype, true});
  initialize(*model, 0.3, 11);
  return model;
}

Tensor some_ids(int64_t batch, int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < batch * tokens; ++i) ids.push_back(int32_t((i * i + 3 * i) % 37));
  return Tensor::from(ids, {batch, tokens});
}

ForwardOptions f64_options() {
  ForwardOptions options;
  options.compute_dtype = DType::f64;
  return options;
}

std::vector<std::string> names_of(const LanguageModel& model) {
  std::vector<std::string> names;
  for (const NamedTensor& tensor : model.named_tensors()) names.push_back(tensor.name);
  return names;
}

TEST(LlamaTest, ParametersAreThoseOfTheCheckpointLayout) {
  for (const bool tied : {false, true})
    for (const LeaderMap& map : {LeaderMap::own(5), kShared}) {
      const auto model = small_model(map, DType::f32, tied);
      std::vector<std::string> names = names_of(*model), expected;
      for (const WeightShape& weight : weight_shapes(model->config(), map)) expected.push_back(weight.name);
      std::sort(names.begin(), names.end());
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ(names, expected);
      EXPECT_EQ(model->parameter_count(), parameter_count(model->config(), map));
    }
}

TEST(LlamaTest, FollowersDoWithoutQueryAndKeyProjections) {
  const LlamaConfig config = small_config();
  const int64_t removed =
      small_model(LeaderMap::own(5), DType::f32)->parameter_count() - small_model(kShared, DType::f32)->parameter_count();
  EXPECT_EQ(removed, kShared.parameters_removed(config.hidden_size, config.num_attention_heads, config.num_key_value_heads,
                                                config.head_dim));
  EXPECT_EQ(removed, 2 * (6 + 2) * 6 * 24);
}

// Layer 2 is the first follower of kShared. Everything before it has the same names and values as without sharing.
TEST(LlamaTest, InitialValuesDoNotDependOnTheLeaderMapOfLaterLayers) {
  const auto own = small_model(LeaderMap::own(5), DType::f32), shared = small_model(kShared, DType::f32);
  const std::vector<NamedTensor> expected = own->named_tensors(), actual = shared->named_tensors();
  const std::string last = layer_weight(1, "mlp.down_proj");
  bool complete = false;
  for (size_t i = 0; !complete; ++i) {
    ASSERT_LT(i, actual.size());
    ASSERT_EQ(actual[i].name, expected[i].name);
    EXPECT_EQ(actual[i].tensor.to_vector<float>(), expected[i].tensor.to_vector<float>()) << actual[i].name;
    complete = actual[i].name == last;
  }
}

// With equal query and key weights and equal inputs to attention a follower is what it stands for. Here: a student whose
// follower comes right after its leader with attention inputs made equal by weights of zero in between.
TEST(SharedAttentionLlamaTest, EqualsAnUnsharedModelWhenTheMatricesAreTheSame) {
  const auto own = small_model(LeaderMap::own(5), DType::f64);
  const auto shared = make_model(small_config(), LeaderMap({0, 1, 1, 3, 4}), {DType::f64, false});
  std::map<std::string, Tensor> weights;
  for (const NamedTensor& part : own->named_tensors()) weights[part.name] = part.tensor;
  // Layer 1 adds nothing to the residual stream, so layer 2 sees the same input; give it the same norm, q and k.
  weights.at(layer_weight(1, "self_attn.o_proj")).fill_zero();
  weights.at(layer_weight(1, "mlp.down_proj")).fill_zero();
  for (const char* part : {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj"})
    weights.at(layer_weight(2, part)).copy_from(weights.at(layer_weight(1, part)));
  for (NamedTensor& part : shared->named_tensors()) part.tensor.copy_from(weights.at(part.name));
  const NoGrad no_grad;
  const Tensor ids = some_ids(2, 19);
  EXPECT_LT(
      largest_difference(shared->forward(ids, f64_options()).hidden.data(), own->forward(ids, f64_options()).hidden.data()),
      1e-12);
}

TEST(LlamaTest, LaterTokensDoNotChangeEarlierOutputs) {
  const NoGrad no_grad;
  const auto model = small_model(kShared, DType::f64);
  const Tensor ids = some_ids(1, 12);
  Tensor changed = ids.clone();
  changed.data<int32_t>()[8] = 39;
  const Tensor before = model->forward(ids, f64_options()).hidden.data(),
               after = model->forward(changed, f64_options()).hidden.data();
  EXPECT_EQ(largest_difference(before.narrow(1, 0, 8).contiguous(), after.narrow(1, 0, 8).contiguous()), 0);
  EXPECT_GT(largest_difference(before.narrow(1, 8, 4).contiguous(), after.narrow(1, 8, 4).contiguous()), 1e-3);
}

// Two documents in one row, attention cut at the border: the second's outputs are those at its own positions, RoPE being
// relative.
TEST(LlamaTest, FirstKeyKeepsDocumentsApart) {
  const NoGrad no_grad;
  const auto model = small_model(kShared, DType::f64);
  const Tensor ids = some_ids(1, 12), second = ids.narrow(1, 5, 7).contiguous();
  ForwardOptions options = f64_options();
  options.first_key = Tensor::from(std::vector<int32_t>{0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 5, 5}, {1, 12});
  const Tensor together = model->forward(ids, options).hidden.data().narrow(1, 5, 7).contiguous();
  EXPECT_LT(largest_difference(together, model->forward(second, f64_options()).hidden.data()), 1e-12);
}

TEST(LlamaTest, WantedOutputsAreTheSameWithRecompute) {
  const auto model = small_model(kShared, DType::f64);
  ForwardOptions options = f64_options();
  options.wanted_outputs = {0, 2, 4};
  const ForwardResult plain = model->forward(some_ids(2, 9), options);
  options.recompute = true;
  const ForwardResult recomputed = model->forward(some_ids(2, 9), options);
  ASSERT_EQ(plain.layer_outputs.size(), 3u);
  ASSERT_EQ(recomputed.layer_outputs.size(), 3u);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(largest_difference(plain.layer_outputs[i].data(), recomputed.layer_outputs[i].data()), 0) << i;
  EXPECT_EQ(largest_difference(plain.hidden.data(), recomputed.hidden.data()), 0);
}

TEST(LlamaTest, ObserverSeesEachMatrixOnceInOrder) {
  const NoGrad no_grad;
  const auto model = small_model(kShared, DType::f32);
  std::vector<int64_t> seen;
  ForwardOptions options;
  options.on_attention = [&](int64_t layer, const SharedProbabilities& probabilities) {
    seen.push_back(layer);
    EXPECT_EQ(probabilities.lse.shape(), (Shape{2, 6, 9}));
  };
  model->forward(some_ids(2, 9), options);
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 3}));
}

TEST(LlamaTest, DetachedFollowersLeaveTheLeadersQueriesTheirOwnGradientOnly) {
  const auto gradient_of = [](bool detach, bool with_follower_loss) {
    const auto model = small_model(LeaderMap({0, 1, 2, 3, 3}), DType::f64);
    ForwardOptions options = f64_options();
    options.detach_shared = detach;
    options.wanted_outputs = {3};
    const ForwardResult result = model->forward(some_ids(1, 9), options);
    sum(tanh(with_follower_loss ? result.hidden : result.layer_outputs[0])).backward();
    const std::string query = layer_weight(3, "self_attn.q_proj");
    for (const Parameter* parameter : model->parameters())
      if (parameter->parts.front().name == query)
        return parts_of(*parameter, parameter->variable.gradient()).front().tensor.clone();
    return Tensor();
  };
  EXPECT_GT(largest_difference(gradient_of(true, true), gradient_of(false, true)), 1e-6);
  EXPECT_EQ(largest_difference(gradient_of(true, false), gradient_of(false, false)), 0);
}

TEST(LlamaTest, ThreadsThatRunForwardAtTheSameTimeGetTheBitsOfOne) {
  const auto hidden = [](const LanguageModel& model, int64_t tokens) {
    const NoGrad no_grad;
    return model.forward(some_ids(1, tokens), {}).hidden.data().to_vector<float>();
  };
  // The sequence lengths grow past max_position_embeddings (64), so new tables of angles are made while other threads use older
  // ones.
  const std::vector<int64_t> lengths = {3, 9, 17, 33, 65, 90, 130};
  std::vector<std::vector<float>> expected;
  for (const int64_t length : lengths) expected.push_back(hidden(*small_model(kShared, DType::f32), length));
  const auto model = small_model(kShared, DType::f32);
  std::vector<std::vector<float>> actual[2];
  std::vector<std::thread> threads;
  for (auto& results : actual)
    threads.emplace_back([&] {
      for (const int64_t length : lengths) results.push_back(hidden(*model, length));
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& results : actual) EXPECT_EQ(results, expected);
}

// All parameters' gradients in one bucket. The bits equal those of gradients in separate tensors.
TEST(LlamaTest, GradientsLandInABucketWithTheSameBits) {
  const auto pass = [](const LanguageModel& model) { sum(tanh(model.forward(some_ids(2, 9), {}).hidden)).backward(); };
  const auto expected = small_model(kShared, DType::f32, true), model = small_model(kShared, DType::f32, true);
  Tensor bucket = Tensor::full({model->parameter_count()}, 5, DType::f32);
  int64_t start = 0;
  for (Parameter* parameter : model->parameters()) {
    const Shape& shape = parameter->variable.shape();
    parameter->variable.set_gradient_storage(bucket.narrow(0, start, shape.elements()).reshape(shape));
    start += shape.elements();
  }
  for (int passes = 0; passes < 2; ++passes) {
    pass(*expected);
    pass(*model);
    std::vector<float> joined;
    for (const Parameter* parameter : expected->parameters())
      for (const float value : parameter->variable.gradient().to_vector<float>()) joined.push_back(value);
    EXPECT_EQ(bucket.to_vector<float>(), joined);
  }
  for (Parameter* parameter : model->parameters()) parameter->variable.clear_gradient();
  EXPECT_EQ(bucket.to_vector<float>(), std::vector<float>(size_t(start), 0.0f));
}

// ---- memory ----

// Queries and keys are most of the memory that attention allocates here.
TEST(MemoryTest, APassThatRecordsNothingCopiesNoQueriesAndKeys) {
  LlamaConfig config = small_config();
  config.hidden_size = 8, config.intermediate_size = 8, config.num_hidden_layers = 1;
  config.num_attention_heads = config.num_key_value_heads = 4, config.head_dim = 64;
  const auto model = make_model(config, LeaderMap::own(1), {DType::f32, true});
  initialize(*model, 0.3, 1);
  constexpr int64_t kTokens = 256;
  const Tensor ids = some_ids(1, kTokens);
  const auto pass = [&] { return model->forward(ids, {}).hidden.data().to_vector<float>(); };
  const std::vector<float> recorded = pass();
  CpuAllocator& allocator = CpuAllocator::instance();
  allocator.reset_peak();
  const int64_t before = allocator.statistics().in_use;
  {
    const NoGrad no_grad;
    EXPECT_EQ(pass(), recorded);
  }
  const int64_t within = allocator.statistics().peak - before;
  const int64_t heads = kTokens * 4 * 64 * 4;  // bytes of the queries of all heads
  // Queries, keys, values, the output, and what attention works with, about one more. A copy would add two.
  EXPECT_GE(within, 4 * heads);
  EXPECT_LT(within, 6 * heads);
}

struct Peaks {
  double bytes;
  int64_t largest_request;
};

// Bytes in use beyond those before, at the most, and the largest single allocation. Runs `body` twice: what is kept for all
// later calls (gradients, the rotation table) is not counted.
template <class Body>
Peaks peaks_of(Body&& body) {
  CpuAllocator& allocator = CpuAllocator::instance();
  body();
  allocator.reset_peak();
  const int64_t before = allocator.statistics().in_use;
  body();
  const MemoryStatistics statistics = allocator.statistics();
  return {double(statistics.peak - before), statistics.largest_request};
}

template <class Body>
void expect_linear_memory(Body&& body) {
  const Peaks at_512 = peaks_of([&] { body(512); });
  const Peaks at_1024 = peaks_of([&] { body(1024); });
  const Peaks at_2048 = peaks_of([&] { body(2048); });
  // Linear: the second doubling costs twice the first (sizes are rounded up by at most an eighth); quadratic: four times.
  EXPECT_LT(at_2048.bytes - at_1024.bytes, 2.5 * (at_1024.bytes - at_512.bytes));
  // No allocation holds one head's matrix, not even in bf16.
  EXPECT_LT(at_2048.largest_request, 2048 * 2048 * 2);
}

LlamaConfig long_config() {
  LlamaConfig config = small_config();
  config.max_position_embeddings = 4096;
  return config;
}

TEST(MemoryTest, TrainingOnLongTextsAllocatesNothingQuadratic) {
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recompute" : "plain");
    const auto student = make_model(long_config(), kShared, {DType::f32, true});
    const auto teacher = make_model(long_config(), LeaderMap::own(5), {DType::f32, false});
    initialize(*student, 0.3, 1);
    initialize(*teacher, 0.3, 2);
    expect_linear_memory([&](int64_t tokens) {
      const Tensor ids = some_ids(1, tokens);
      ForwardOptions options;
      options.recompute = recompute;
      ForwardResult of_teacher;
      {
        const NoGrad no_grad;
        of_teacher = teacher->forward(ids, {});
      }
      const ForwardResult result = student->forward(ids, options);
      const Shape rows{tokens, 24};
      distillation_loss(reshape(result.hidden, rows), student->head_weight(), of_teacher.hidden.data().reshape(rows),
                        teacher->head_weight().data(), ids.reshape({tokens}), {})
          .backward();
    });
  }
}

TEST(MemoryTest, GenerationFromLongTextsAllocatesNothingQuadratic) {
  const auto model = make_model(long_config(), kShared, {DType::f32, false});
  initialize(*model, 0.3, 1);
  expect_linear_memory([&](int64_t tokens) {
    GenerationOptions options;
    options.max_new_tokens = 5;
    int written = 0;
    generate(*model, {some_ids(1, tokens).to_vector<int32_t>()}, options, [&](size_t, int32_t) { ++written; });
    EXPECT_EQ(written, 5);
  });
}

}  // namespace
}  // namespace echo
