#include "analysis/attention_similarity.h"
#include "kernels/attention/similarity.h"
#include "nn/model_io.h"
#include "tensor/allocator.h"
#include "tests/kernels/cuda_parity.h"

// The memory that similarity needs on a GPU: nothing of size T x T, which for TinyLlama's 22 x 32 heads and 2048 tokens would
// be 5.9 GB in bf16.
namespace echo {
namespace {

// The memory of the kernels in addition to their arguments: f64 sums (three per pair of layers, in whole blocks of 8 by 8, for
// each head and each of at most 32 thread blocks that share it), their total, and seven words per layer.
int64_t scratch_bytes(int64_t layers, int64_t heads, int64_t tokens) {
  const int64_t blocks = (layers + 7) / 8, sums = 3 * 64 * (blocks * (blocks + 1) / 2);
  const int64_t groups = std::min<int64_t>((tokens + 15) / 16, 32);
  return (heads * (groups + 1) * sums + 7 * layers) * 8;
}

// The memory of a text in addition to a model's weights, in bf16: projections and log-sum-exps of every layer; five states, the
// MLP's two projections and their product for the current layer; later, instead of these, the last state and the kernels' sums.
int64_t similarity_bytes(const LlamaConfig& c, int64_t tokens) {
  const int64_t projections = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim;
  const int64_t kept = c.num_hidden_layers * tokens * (projections * 2 + c.num_attention_heads * 4);
  const int64_t computed = tokens * (5 * c.hidden_size + 3 * c.intermediate_size) * 2;
  const int64_t compared = tokens * c.hidden_size * 2 + scratch_bytes(c.num_hidden_layers, c.num_attention_heads, tokens);
  return kept + std::max(computed, compared);
}

LlamaConfig config_of(int64_t width, int64_t inner_width, int64_t layers, int64_t heads, int64_t key_heads) {
  LlamaConfig config;
  config.vocab_size = 64, config.hidden_size = width, config.intermediate_size = inner_width, config.num_hidden_layers = layers;
  config.num_attention_heads = heads, config.num_key_value_heads = key_heads, config.head_dim = width / heads;
  return config;
}

// The largest increase of the device's memory in use while body() runs.
template <class Body>
int64_t peak_of(Body&& body) {
  reset_memory_peak(kCuda);
  const int64_t before = memory_statistics(kCuda).in_use;
  body();
  return memory_statistics(kCuda).peak - before;
}

TEST(CudaSimilarityMemoryTest, KernelsHoldSumsOfRowBlocksOnly) {
  const auto peak = [](int64_t layers, int64_t heads, int64_t tokens) {
    const Tensor rows = Tensor::zeros({tokens, heads, 8}, DType::bf16, kCuda),
                 lse = Tensor::zeros({heads, tokens}, DType::f32, kCuda);
    const std::vector<kernels::AttentionMatrix> matrices(size_t(layers), {rows, rows, lse});
    return peak_of([&] { kernels::attention_similarity(matrices, 1); });
  };
  for (const int64_t tokens : {32, 64, 128}) EXPECT_EQ(peak(9, 2, tokens), scratch_bytes(9, 2, tokens)) << tokens;
  EXPECT_EQ(peak(22, 32, 16), scratch_bytes(22, 32, 16));
  EXPECT_EQ(peak(1, 1, 512), peak(1, 1, 1024));
}

TEST(CudaSimilarityMemoryTest, AModelHoldsItsProjectionsAndOneLayersStates) {
  const LlamaConfig config = config_of(32, 48, 4, 4, 2);
  const auto model = make_model(config, LeaderMap::own(4), {DType::bf16, false, kCuda});
  for (const auto& [name, tensor] : model->named_tensors())
    Tensor(tensor).copy_from(random_tensor(tensor.shape(), DType::bf16, 1, 0.3).to(kCuda));
  const auto peak = [&](int64_t tokens) {
    const std::vector<int32_t> text(size_t(tokens), 7);
    attention_similarity(*model, text, DType::bf16);  // the rotation table has its length afterwards
    return peak_of([&] { attention_similarity(*model, text, DType::bf16); });
  };
  // The bounds detect one extra matrix of a head: at 256 tokens it would add two fifths of the expected bytes.
  for (const int64_t tokens : {128, 256}) {
    const int64_t measured = peak(tokens), expected = similarity_bytes(config, tokens);
    EXPECT_LE(measured, expected) << tokens;
    EXPECT_GT(measured, expected * 9 / 10) << tokens;
  }
}

TEST(CudaSimilarityMemoryTest, TinyLlamaNeedsAThirdOfAGigabyteBesideItsWeights) {
  const LlamaConfig tiny_llama = config_of(2048, 5632, 22, 32, 4);
  EXPECT_LT(similarity_bytes(tiny_llama, 2048), 350 << 20);
}

}  // namespace
}  // namespace echo
