#include "training/layer_shards.h"

#include <gtest/gtest.h>

#include "autograd/no_grad.h"
#include "communication/thread_ranks.h"
#include "nn/model_io.h"
#include "tests/test_support.h"

namespace echo {
namespace {

std::unique_ptr<LanguageModel> frozen_model(bool requires_gradient = false) {
  LlamaConfig config;
  config.vocab_size = 32, config.hidden_size = 24, config.intermediate_size = 40, config.num_hidden_layers = 3;
  config.num_attention_heads = 4, config.num_key_value_heads = 2, config.head_dim = 6;
  auto model = make_model(config, LeaderMap({0, 0, 2}), {.requires_gradient = requires_gradient});
  initialize(*model, 0.2, 1);
  return model;
}

std::vector<float> hidden_states(const LanguageModel& model, bool recompute = false) {
  const NoGrad no_grad;
  ForwardOptions options;
  options.recompute = recompute;
  return model.forward(Tensor::from(std::vector<int32_t>{3, 1, 4, 1, 5, 9}, {1, 6}), options).hidden.data().to_vector<float>();
}

int64_t matrices_in_memory(const LanguageModel& model) {
  int64_t count = 0;
  for (int64_t layer = 0; layer < model.config().num_hidden_layers; ++layer)
    for (const Parameter* parameter : model.layer_parameters(layer))
      if (parameter->variable.data().defined() && parameter->variable.data().rank() == 2) ++count;
  return count;
}

TEST(LayerShardsTest, PassesGiveTheSameBitsAndLayersAreInMemoryOnlyDuringThem) {
  const std::vector<float> expected = hidden_states(*frozen_model());
  for (const int64_t world : {1, 2, 3})
    run_thread_ranks(world, [&](const std::shared_ptr<Communicator>& ranks) {
      const auto model = frozen_model();
      EXPECT_EQ(matrices_in_memory(*model), 12);
      LayerShards shards(*ranks, *model);
      for (int pass = 0; pass < 2; ++pass) {
        EXPECT_EQ(hidden_states(*model), expected) << "rank " << ranks->rank();
        EXPECT_EQ(matrices_in_memory(*model), 0);
      }
      EXPECT_EQ(hidden_states(*model, /*recompute=*/true), expected);
    });
}

TEST(LayerShardsTest, TheFirstRankMakesPassesAloneWhileTheOthersServe) {
  const std::vector<float> expected = hidden_states(*frozen_model());
  run_thread_ranks(3, [&](const std::shared_ptr<Communicator>& ranks) {
    const auto model = frozen_model();
    LayerShards shards(*ranks, *model);
    for (const int passes : {2, 0, 1}) {
      if (!ranks->is_first()) {
        shards.serve();
        continue;
      }
      shards.begin_alone();
      for (int pass = 0; pass < passes; ++pass) EXPECT_EQ(hidden_states(*model), expected);
      shards.finish_alone();
    }
    EXPECT_EQ(hidden_states(*model), expected) << "and all of them together afterwards";
  });
}

TEST(LayerShardsTest, AModelThatLearnsIsRefused) {
  SingleProcess one;
  const auto model = frozen_model(/*requires_gradient=*/true);
  expect_check_fails("is not frozen", [&] { LayerShards(one, *model); });
}

}  // namespace
}  // namespace echo
