#include "nn/generator.h"

#include "autograd/no_grad.h"
#include "nn/model_io.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

LlamaConfig small_config() {
  LlamaConfig config;
  config.vocab_size = 30, config.hidden_size = 16, config.intermediate_size = 20, config.num_hidden_layers = 3;
  config.num_attention_heads = 4, config.num_key_value_heads = 2, config.head_dim = 4, config.max_position_embeddings = 64;
  return config;
}

std::unique_ptr<LanguageModel> small_model(LlamaConfig config = small_config()) {
  auto model = make_model(config, LeaderMap({0, 1, 1}), {DType::f64, false});
  initialize(*model, 0.5, 5);
  return model;
}

GenerationOptions options_of(int64_t max_new_tokens, const SamplingOptions& sampling = {}) {
  GenerationOptions options;
  options.max_new_tokens = max_new_tokens;
  options.sampling = sampling;
  options.compute_dtype = DType::f64;
  return options;
}

std::vector<int32_t> generated(const LanguageModel& model, const std::vector<int32_t>& prompt, const GenerationOptions& options,
                               GenerationStatistics* statistics = nullptr) {
  std::vector<int32_t> ids;
  const GenerationStatistics result = generate(model, {prompt}, options, [&](size_t, int32_t id) { ids.push_back(id); });
  if (statistics != nullptr) *statistics = result;
  return ids;
}

TEST(GeneratorTest, CachedStepsChooseWhatWholePassesChoose) {
  const auto model = small_model();
  const std::vector<int32_t> prompt = {1, 7, 4};
  for (const SamplingOptions& sampling :
       {SamplingOptions{}, SamplingOptions{.temperature = 1, .top_k = 10, .top_p = 0.9, .seed = 3}}) {
    const NoGrad no_grad;
    std::vector<int32_t> ids = prompt;
    Sampler sampler(sampling);
    ForwardOptions forward;
    forward.compute_dtype = DType::f64;
    for (int i = 0; i < 20; ++i) {
      const Tensor hidden = model->forward(Tensor::from(ids, {1, int64_t(ids.size())}), forward).hidden.data();
      ids.push_back(sampler.choose(model->logits(hidden.select(1, int64_t(ids.size()) - 1).contiguous()).reshape({30})));
    }
    EXPECT_EQ(generated(*model, prompt, options_of(20, sampling)), std::vector<int32_t>(ids.begin() + 3, ids.end()));
  }
}

TEST(GeneratorTest, TheSeedDecidesTheText) {
  const auto model = small_model();
  const auto text = [&](uint64_t seed) { return generated(*model, {1}, options_of(30, {.temperature = 1.5, .seed = seed})); };
  EXPECT_EQ(text(1), text(1));
  EXPECT_NE(text(1), text(2));
}

TEST(GeneratorTest, StopsAtAnEndTokenWithoutHandingItOut) {
  const std::vector<int32_t> free_text = generated(*small_model(), {1, 7, 4}, options_of(20));
  LlamaConfig config = small_config();
  config.eos_token_id = {29, free_text[5]};  // one of several
  size_t first = 0;
  while (free_text[first] != free_text[5] && free_text[first] != 29) ++first;
  GenerationStatistics statistics;
  const std::vector<int32_t> text = generated(*small_model(config), {1, 7, 4}, options_of(20), &statistics);
  EXPECT_TRUE(statistics.ended[0]);
  EXPECT_EQ(text, std::vector<int32_t>(free_text.begin(), free_text.begin() + int64_t(first)));
  EXPECT_EQ(statistics.new_tokens, int64_t(first));
}

TEST(GeneratorTest, CountsTokensAndSteps) {
  const auto model = small_model();
  GenerationStatistics statistics;
  EXPECT_EQ(generated(*model, {1, 7, 4}, options_of(6), &statistics).size(), 6u);
  EXPECT_EQ(statistics.prompt_tokens, 3);
  EXPECT_EQ(statistics.new_tokens, 6);
  EXPECT_EQ(statistics.decode_steps, 5);  // the pass over the prompt chose the first token
  EXPECT_FALSE(statistics.ended[0]);
  EXPECT_GT(statistics.prefill_seconds, 0);
  EXPECT_TRUE(generated(*model, {1, 7, 4}, options_of(0)).empty());
}

TEST(GeneratorTest, PromptsOfDifferentLengthInOneBatchAreContinuedAsEachAlone) {
  const auto model = small_model();
  const std::vector<std::vector<int32_t>> prompts = {{1, 7, 4}, {1}, {1, 2, 3, 4, 5, 6, 7}, {1, 9}};
  LlamaConfig config = small_config();
  config.eos_token_id = {generated(*model, prompts[1], options_of(9))[4]};  // one text ends early, the others continue
  const auto ending = small_model(config);
  for (const SamplingOptions& sampling : {SamplingOptions{}, SamplingOptions{.temperature = 1, .top_k = 10, .seed = 3}}) {
    std::vector<std::vector<int32_t>> together(prompts.size());
    const GenerationStatistics statistics =
        generate(*ending, prompts, options_of(9, sampling), [&](size_t i, int32_t id) { together[i].push_back(id); });
    int64_t tokens = 0;
    for (size_t i = 0; i < prompts.size(); ++i) {
      SamplingOptions own = sampling;
      own.seed += i;
      EXPECT_EQ(together[i], generated(*ending, prompts[i], options_of(9, own))) << "prompt " << i;
      tokens += int64_t(together[i].size());
    }
    EXPECT_EQ(statistics.new_tokens, tokens);
    EXPECT_EQ(statistics.prompt_tokens, 13);
    EXPECT_TRUE(statistics.ended[1] || sampling.temperature > 0);
  }
}

TEST(GeneratorTest, AnEmptyPromptIsRefused) {
  const auto model = small_model();
  EXPECT_THROW(generate(*model, {}, options_of(3), [](size_t, int32_t) {}), Error);
  EXPECT_NE(error_message(ExitCode::usage, [&] { generated(*model, {}, options_of(3)); }).find("empty"), std::string::npos);
}

TEST(KvCacheTest, FollowersCacheNoKeys) {
  const auto model = small_model();
  const KvCache cache = model->make_cache(2, 10, DType::f32);
  ASSERT_EQ(cache.layers.size(), 3u);
  EXPECT_TRUE(cache.layers[1].k.defined());
  EXPECT_FALSE(cache.layers[2].k.defined());
  EXPECT_EQ(cache.bytes(), (3 + 2) * 2 * 10 * 2 * 4 * 4);
}

// The hidden states of `steps`, after a pass over `prompts`, which are padded to the same length.
std::vector<Tensor> decoded(const LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts,
                            const std::vector<std::vector<int32_t>>& steps) {
  const NoGrad no_grad;
  std::vector<int32_t> padded, lengths;
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  for (const auto& prompt : prompts) {
    padded.insert(padded.end(), prompt.begin(), prompt.end());
    padded.resize(padded.size() + longest - prompt.size(), 29);
    lengths.push_back(int32_t(prompt.size()));
  }
  KvCache cache = model.make_cache(int64_t(prompts.size()), int64_t(longest + steps.size()), DType::f64);
  ForwardOptions options;
  options.compute_dtype = DType::f64;
  options.cache = &cache;
  model.forward(Tensor::from(padded, {int64_t(prompts.size()), int64_t(longest)}), options);
  cache.set_lengths(lengths);
  std::vector<Tensor> hidden;
  for (const auto& ids : steps) hidden.push_back(model.decode(Tensor::from(ids), cache, DType::f64));
  EXPECT_EQ(cache.longest, int64_t(longest + steps.size()));
  return hidden;
}

TEST(KvCacheTest, SequencesOfDifferentLengthAreDecodedAsEachAlone) {
  const auto model = small_model();
  const std::vector<int32_t> first = {1, 7, 4, 9, 2, 5, 6}, second = {8, 3, 1};
  const auto together = decoded(*model, {first, second}, {{3, 5}, {7, 11}, {2, 2}, {9, 1}, {10, 4}});
  const auto first_alone = decoded(*model, {first}, {{3}, {7}, {2}, {9}, {10}});
  const auto second_alone = decoded(*model, {second}, {{5}, {11}, {2}, {1}, {4}});
  for (size_t step = 0; step < 5; ++step) {
    EXPECT_LT(largest_difference(together[step].narrow(0, 0, 1), first_alone[step]), 1e-13) << step;
    EXPECT_LT(largest_difference(together[step].narrow(0, 1, 1), second_alone[step]), 1e-13) << step;
  }
}

TEST(KvCacheTest, LengthsThatDoNotFitAreRefused) {
  KvCache cache = small_model()->make_cache(2, 10, DType::f32);
  for (const int32_t length : {-1, 11}) error_message(ExitCode::internal, [&] { cache.set_lengths({3, length}); });
  error_message(ExitCode::internal, [&] { cache.set_lengths({3}); });
}

TEST(KvCacheTest, APassOverPromptsTakesOnlyAnEmptyCacheWithRoomForThem) {
  const NoGrad no_grad;
  const auto model = small_model();
  const Tensor ids = Tensor::from(std::vector<int32_t>{1, 2, 3, 4}, {2, 2});
  const auto forward = [&](KvCache& cache, bool recompute = false) {
    ForwardOptions options;
    options.compute_dtype = DType::f64;
    options.recompute = recompute;
    options.cache = &cache;
    model->forward(ids, options);
  };
  const auto refusal = [&](KvCache& cache, bool recompute = false) {
    return error_message(ExitCode::internal, [&] { forward(cache, recompute); });
  };
  KvCache cache = model->make_cache(2, 4, DType::f64), other_batch = model->make_cache(3, 4, DType::f64),
          short_cache = model->make_cache(2, 1, DType::f64);
  expect_contains(refusal(cache, true), "llama: a cache and recompute, expected one of them at most");
  expect_contains(refusal(other_batch), "llama: a cache of 3 sequences for ids of 2");
  expect_contains(refusal(short_cache), "llama: a cache of 1 positions for prompts of 2");
  forward(cache);
  expect_contains(refusal(cache), "llama: the cache already holds 2 positions, expected an empty cache");
}

TEST(KvCacheTest, AFullCacheIsRefused) {
  const NoGrad no_grad;
  const auto model = small_model();
  KvCache cache = model->make_cache(1, 2, DType::f64);
  ForwardOptions options;
  options.compute_dtype = DType::f64;
  options.cache = &cache;
  model->forward(Tensor::from(std::vector<int32_t>{1, 2}, {1, 2}), options);
  error_message(ExitCode::internal, [&] { model->decode(Tensor::from(std::vector<int32_t>{3}), cache, DType::f64); });
}

}  // namespace
}  // namespace echo
