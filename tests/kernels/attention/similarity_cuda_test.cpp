#include "kernels/attention/attention.h"
#include "kernels/attention/similarity.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::AttentionMatrix;

struct Case {
  int64_t layers, tokens, heads, kv_heads, head_dim;
  int64_t gap = 0;  // elements between heads
};

// Slices of one tensor per layer, as from a model's fused projection. The log-sum-exp is computed in f64 on the CPU and rounded
// once.
std::vector<AttentionMatrix> random_layers(const ParitySetting& on, const Case& c) {
  std::vector<AttentionMatrix> layers;
  for (int64_t i = 0; i < c.layers; ++i) {
    const ParitySetting exact{Device{}, DType::f64, on.rounded_to};
    const auto slice = [&](const ParitySetting& where, int64_t first, int64_t heads) {
      return where.input({1, c.tokens, c.heads + 2 * c.kv_heads, c.head_dim + c.gap}, uint64_t(i + 1), 1.5)
          .narrow(3, 0, c.head_dim)
          .narrow(2, first, heads);
    };
    Tensor o = Tensor::empty({1, c.tokens, c.heads, c.head_dim}, DType::f64),
           lse = Tensor::empty({1, c.heads, c.tokens}, DType::f64);
    kernels::attention_forward(o, lse, slice(exact, 0, c.heads), slice(exact, c.heads, c.kv_heads),
                               slice(exact, c.heads + c.kv_heads, c.kv_heads), {}, 1 / std::sqrt(double(c.head_dim)));
    layers.push_back({slice(on, 0, c.heads).select(0, 0), slice(on, c.heads, c.kv_heads).select(0, 0),
                      kernels::cast(lse, accumulator_dtype(on.dtype)).to(on.device).select(0, 0)});
  }
  return layers;
}

std::vector<Tensor> similarities(const ParitySetting& on, const Case& c) {
  const auto result = kernels::attention_similarity(random_layers(on, c), 1 / std::sqrt(double(c.head_dim)));
  for (const Tensor& table : {result.flat, result.per_head, result.per_row, result.no_first_column})
    EXPECT_TRUE(table.device().is_cpu() && table.dtype() == DType::f64);
  return {result.flat, result.per_head, result.per_row, result.no_first_column};
}

// Numbers of layers that do not fill a block of 8, texts that do not fill a tile, several tiles of keys, heads that are not a
// multiple of a vector, 1 to 3 units per thread. Probabilities in f32 have errors of about 1e-6 (exponents up to 10 rounded to
// 2^-24 of their size), and errors of a product's terms average out. bf16 inputs are the same numbers on both sides.
TEST(CudaAttentionSimilarityTest, EveryVariantAgreesWithF64OnTheCpu) {
  for (const Case& c :
       {Case{1, 1, 1, 1, 8}, Case{2, 17, 2, 1, 8}, Case{5, 70, 2, 2, 40}, Case{9, 33, 4, 2, 24}, Case{3, 34, 1, 1, 10},
        Case{8, 20, 2, 2, 8, 3}, Case{22, 50, 1, 1, 64}, Case{41, 18, 1, 1, 8}, Case{64, 17, 1, 1, 8}}) {
    SCOPED_TRACE(concat(c.layers, " layers, ", c.tokens, " tokens, heads of ", c.head_dim));
    const ParityCase body = [&c](const ParitySetting& on) { return similarities(on, c); };
    expect_parity(body, DType::f32, 1e-6);
    expect_parity(body, DType::bf16, 1e-6);
  }
}

TEST(CudaAttentionSimilarityTest, BlocksThatShareAHeadAddUp) {
  const Case c{2, 33 * 16, 1, 1, 8};  // 33 blocks of rows for 32 blocks of threads
  expect_parity([&c](const ParitySetting& on) { return similarities(on, c); }, DType::bf16, 1e-6);
}

// All mass is on the first token in both layers, so without its column there is nothing to compare.
TEST(CudaAttentionSimilarityTest, MatricesWithoutMassBesideTheFirstColumnCountAsUnalikeWithoutIt) {
  const int64_t T = 40, Dh = 8;
  std::vector<AttentionMatrix> layers;
  for (int64_t i = 0; i < 2; ++i) {
    const Tensor q = Tensor::full({T, 1, Dh}, 100.0, DType::f32), k = Tensor::full({T, 1, Dh}, -100.0, DType::f32);
    for (int64_t d = 0; d < Dh; ++d) k.data<float>()[d] = 100.0f;
    layers.push_back({q.to(kCuda), k.to(kCuda), Tensor::full({1, T}, double(Dh) * 1e4, DType::f32, kCuda)});
  }
  const kernels::AttentionSimilarity similarity = kernels::attention_similarity(layers, 1.0);
  for (const double cosine : similarity.flat.to_vector<double>()) EXPECT_NEAR(cosine, 1, 1e-14);
  EXPECT_EQ(similarity.no_first_column.to_vector<double>(), (std::vector<double>{1, 0, 0, 1}));
}

TEST(CudaAttentionSimilarityTest, AValueThatIsNotFiniteIsNotTakenForASimilarity) {
  for (const float damage : {std::nanf(""), -INFINITY}) {
    const ParitySetting on{kCuda, DType::f32, DType::f32};
    auto layers = random_layers(on, {3, 40, 2, 2, 8});
    Tensor k = layers[1].k.to(Device{}).clone();
    k.data<float>()[0] = damage;
    layers[1].k = k.to(kCuda);
    const Tensor flat = kernels::attention_similarity(layers, 1).flat;
    EXPECT_TRUE(std::isnan(flat.data<double>()[1]));
    EXPECT_TRUE(std::isfinite(flat.data<double>()[2]));
  }
}

TEST(CudaAttentionSimilarityTest, MoreLayersThanFitAndTwoDevicesAreRefused) {
  const ParitySetting on{kCuda, DType::f32, DType::f32};
  const AttentionMatrix layer = random_layers(on, {1, 2, 1, 1, 4})[0];
  EXPECT_THROW(kernels::attention_similarity(std::vector<AttentionMatrix>(65, layer), 1), Error);
  AttentionMatrix here = layer;
  here.k = layer.k.to(Device{});
  EXPECT_THROW(kernels::attention_similarity(std::vector<AttentionMatrix>{here}, 1), Error);
}

}  // namespace
}  // namespace echo
