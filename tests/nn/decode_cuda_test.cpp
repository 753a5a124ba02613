#include "autograd/no_grad.h"
#include "kernels/cast.h"
#include "nn/decode_step.h"
#include "nn/model_io.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

// A leader, its follower, and a layer with its own matrix, in groups of two heads.
std::unique_ptr<LanguageModel> small_model(Device device) {
  LlamaConfig config;
  config.vocab_size = 30, config.hidden_size = 32, config.intermediate_size = 40, config.num_hidden_layers = 3;
  config.num_attention_heads = 4, config.num_key_value_heads = 2, config.head_dim = 16, config.max_position_embeddings = 64;
  auto model = make_model(config, LeaderMap({0, 0, 2}), {DType::f32, false, device});
  if (device.is_cpu()) {
    initialize(*model, 0.3, 5);
  } else {
    const auto source = small_model(Device{});
    const auto from = source->named_tensors(), to = model->named_tensors();
    for (size_t i = 0; i < to.size(); ++i) Tensor(to[i].tensor).copy_from(from[i].tensor);
  }
  return model;
}

// Hidden states of three steps for two sequences, whose prompts of 5 and 2 tokens are padded to 5.
std::vector<Tensor> decoded(Device device, DType dtype) {
  const NoGrad no_grad;
  const auto model = small_model(device);
  KvCache cache = model->make_cache(2, 8, dtype);
  ForwardOptions options;
  options.compute_dtype = dtype;
  options.cache = &cache;
  model->forward(Tensor::from(std::vector<int32_t>{1, 7, 4, 9, 2, 3, 8, 29, 29, 29}, {2, 5}), options);
  cache.set_lengths({5, 2});
  std::vector<Tensor> hidden;
  for (int32_t step = 0; step < 3; ++step)
    hidden.push_back(model->decode(Tensor::from(std::vector<int32_t>{step + 3, 11 - step}), cache, dtype).to(Device{}));
  EXPECT_EQ(cache.lengths.to_vector<int32_t>(), (std::vector<int32_t>{8, 5}));
  return hidden;
}

// Hidden states have size 1 to 3. f32: sums of up to 40 products in another order through three layers. bf16: both sides round
// every activation to 2^-9 of its size, about 20 times one after another.
TEST(CudaDecodeTest, ADeviceComputesWhatTheCpuComputesForSequencesOfDifferentLength) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const std::vector<Tensor> expected = decoded(Device{}, dtype), actual = decoded(kCuda, dtype);
    for (size_t step = 0; step < expected.size(); ++step)
      EXPECT_LT(largest_difference(expected[step], actual[step]), dtype == DType::f32 ? 2e-5 : 0.06) << dtype << ' ' << step;
  }
}

// A longer pass of the same model makes a new table of angles. The recorded step continues to use the old one.
TEST(CudaDecodeTest, ARecordedStepOutlivesALongerPassOfItsModel) {
  const NoGrad no_grad;
  const auto logits_of_steps = [](bool with_longer_pass) {
    const auto model = small_model(kCuda);
    KvCache cache = model->make_cache(1, 6, DType::f32);
    ForwardOptions options;
    options.cache = &cache;
    model->forward(Tensor::from(std::vector<int32_t>{1, 7}, {1, 2}), options);
    DecodeStep step(*model, cache, DType::f32);
    for (int32_t id = 3; id < 6; ++id) step.logits({id});
    if (with_longer_pass) model->forward(Tensor::from(std::vector<int32_t>(40, 2), {1, 40}), {});
    return step.logits({6}).to_vector<float>();
  };
  EXPECT_EQ(logits_of_steps(true), logits_of_steps(false));
}

// Logits of three recorded steps of `batch` sequences whose prompts have 1 to 5 tokens.
Tensor recorded_logits(Device device, DType dtype, int32_t batch) {
  const NoGrad no_grad;
  const auto model = small_model(device);
  KvCache cache = model->make_cache(batch, 8, dtype);
  ForwardOptions options;
  options.compute_dtype = dtype;
  options.cache = &cache;
  std::vector<int32_t> ids, lengths;
  for (int32_t row = 0; row < batch; ++row) {
    lengths.push_back(1 + row % 5);
    for (int32_t i = 0; i < 5; ++i) ids.push_back(i < lengths.back() ? (7 * row + 3 * i) % 30 : 29);
  }
  model->forward(Tensor::from(ids, {batch, 5}), options);
  cache.set_lengths(lengths);
  DecodeStep step(*model, cache, dtype);
  Tensor all = Tensor::empty({3, batch, 30}, DType::f32);
  for (int32_t i = 0; i < 3; ++i) {
    std::vector<int32_t> next;
    for (int32_t row = 0; row < batch; ++row) next.push_back((11 * row + i) % 30);
    all.select(0, i).copy_from(kernels::cast(step.logits(next), DType::f32));
  }
  return all;
}

// 1 and 16 sequences use the kernels for small batches, 20 the library's products. f32: as above, times the number of terms in
// the head. bf16: the limit is the CPU's own distance from f32.
TEST(CudaDecodeTest, RecordedStepsOfAnyBatchComputeWhatTheCpuComputesAndTheSameBitsTwice) {
  for (const int32_t batch : {1, 16, 20}) {
    const Tensor exact = recorded_logits(Device{}, DType::f32, batch);
    EXPECT_LT(largest_difference(exact, recorded_logits(kCuda, DType::f32, batch)), 1e-4) << batch;
    const double of_cpu = largest_difference(exact, recorded_logits(Device{}, DType::bf16, batch));
    const Tensor first = recorded_logits(kCuda, DType::bf16, batch), second = recorded_logits(kCuda, DType::bf16, batch);
    EXPECT_LT(largest_difference(exact, first), 2 * of_cpu) << batch;
    EXPECT_EQ(first.to_vector<float>(), second.to_vector<float>()) << batch;
  }
}

}  // namespace
}  // namespace echo
