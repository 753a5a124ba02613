#include "analysis/attention_similarity.h"

#include <cmath>

#include "analysis/similarity_statistics.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/similarity.h"
#include "tensor/allocator.h"
#include "tests/kernels/thread_count.h"
#include "tests/nn/golden_values.h"

namespace echo {
namespace {

using kernels::AttentionMatrix;
using kernels::AttentionSimilarity;

struct Sizes {
  int64_t layers, tokens, heads, kv_heads, head_dim;
  double scale() const { return 1 / std::sqrt(double(head_dim)); }
};

// Slices of one tensor per layer, as from a model's fused projection.
std::vector<AttentionMatrix> random_layers(const Sizes& sizes, DType dtype) {
  const auto [L, T, H, Hkv, Dh] = sizes;
  std::vector<AttentionMatrix> layers;
  for (int64_t i = 0; i < L; ++i) {
    const Tensor qkv = random_tensor({1, T, H + 2 * Hkv, Dh}, dtype, uint64_t(i + 1), 1.5);
    Tensor o = Tensor::empty({1, T, H, Dh}, dtype), lse = Tensor::empty({1, H, T}, accumulator_dtype(dtype));
    const Tensor q = qkv.narrow(2, 0, H), k = qkv.narrow(2, H, Hkv), v = qkv.narrow(2, H + Hkv, Hkv);
    kernels::attention_forward(o, lse, q, k, v, {}, sizes.scale());
    layers.push_back({q.select(0, 0), k.select(0, 0), lse.select(0, 0)});
  }
  return layers;
}

// The definition: whole matrices and cosines of vectors, in f64.
struct Reference {
  explicit Reference(const Sizes& sizes, const std::vector<AttentionMatrix>& layers) {
    const auto [L, T, H, Hkv, Dh] = sizes;
    const int64_t rows = H * T;
    std::vector<std::vector<double>> p;  // per layer (H, T, T)
    for (const AttentionMatrix& layer : layers) {
      const std::vector<double> q = values_of(layer.q.contiguous()), k = values_of(layer.k.contiguous());
      p.emplace_back(size_t(rows * T), 0.0);
      for (int64_t h = 0; h < H; ++h)
        for (int64_t t = 0; t < T; ++t) {
          double total = 0;
          double* row = p.back().data() + (h * T + t) * T;
          for (int64_t s = 0; s <= t; ++s) {
            double score = 0;
            for (int64_t d = 0; d < Dh; ++d)
              score += q[size_t((t * H + h) * Dh + d)] * k[size_t((s * Hkv + h / (H / Hkv)) * Dh + d)];
            total += row[s] = std::exp(score * sizes.scale());
          }
          for (int64_t s = 0; s <= t; ++s) row[s] /= total;
        }
    }
    const auto cosine = [&](int64_t i, int64_t j, int64_t begin, int64_t end, bool with_first) {
      double ij = 0, ii = 0, jj = 0;
      for (int64_t at = begin; at < end; ++at) {
        if (!with_first && at % T == 0) continue;
        const double a = p[size_t(i)][size_t(at)], b = p[size_t(j)][size_t(at)];
        ij += a * b, ii += a * a, jj += b * b;
      }
      return ij / std::sqrt(ii * jj);
    };
    const auto table = [&](int64_t parts, bool with_first) {
      std::vector<double> result;
      for (int64_t i = 0; i < L; ++i)
        for (int64_t j = 0; j < L; ++j) {
          double sum = 0;
          for (int64_t part = 0; part < parts; ++part)
            sum += cosine(i, j, part * rows * T / parts, (part + 1) * rows * T / parts, with_first);
          result.push_back(sum / double(parts));
        }
      return Tensor::from(result, {L, L});
    };
    similarity = {table(1, true), table(H, true), table(rows, true), table(1, false)};
  }
  AttentionSimilarity similarity;
};

void expect_equal(const AttentionSimilarity& actual, const AttentionSimilarity& expected, double tolerance) {
  EXPECT_LT(largest_difference(actual.flat, expected.flat), tolerance) << "flat";
  EXPECT_LT(largest_difference(actual.per_head, expected.per_head), tolerance) << "per_head";
  EXPECT_LT(largest_difference(actual.per_row, expected.per_row), tolerance) << "per_row";
  EXPECT_LT(largest_difference(actual.no_first_column, expected.no_first_column), tolerance) << "no_first_column";
}

// Numbers of layers that do not fill a block of registers, texts that do not fill a tile, heads narrower than a vector, groups
// of heads.
TEST(AttentionSimilarityTest, EveryVariantEqualsItsDefinition) {
  for (const Sizes& sizes : {Sizes{1, 2, 1, 1, 4}, Sizes{2, 31, 2, 1, 8}, Sizes{5, 33, 4, 2, 10}, Sizes{7, 97, 3, 3, 16},
                             Sizes{9, 64, 2, 2, 24}, Sizes{3, 300, 2, 1, 64}}) {
    SCOPED_TRACE(concat(sizes.layers, " layers, ", sizes.tokens, " tokens"));
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const auto layers = random_layers(sizes, dtype);
      // f32 probabilities are exact to some 1e-6, and errors of a product's terms average out.
      expect_equal(kernels::attention_similarity(layers, sizes.scale()), Reference(sizes, layers).similarity,
                   dtype == DType::f64 ? 1e-12 : 1e-6);
    }
  }
}

TEST(AttentionSimilarityTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  const Sizes sizes{6, 200, 4, 2, 16};
  const auto layers = random_layers(sizes, DType::f32);
  expect_same_bits_on_any_number_of_threads([&] {
    const AttentionSimilarity result = kernels::attention_similarity(layers, sizes.scale());
    return std::vector{result.flat.to_vector<double>(), result.per_head.to_vector<double>(), result.per_row.to_vector<double>(),
                       result.no_first_column.to_vector<double>()};
  });
}

// All mass is on the first token in both layers, so without its column there is nothing to compare.
TEST(AttentionSimilarityTest, MatricesWithoutMassBesideTheFirstColumnCountAsUnalikeWithoutIt) {
  const int64_t T = 40, Dh = 8;
  std::vector<AttentionMatrix> layers;
  for (int64_t i = 0; i < 2; ++i) {
    Tensor q = Tensor::full({T, 1, Dh}, 100.0, DType::f32), k = Tensor::full({T, 1, Dh}, -100.0, DType::f32);
    for (int64_t d = 0; d < Dh; ++d) k.data<float>()[d] = 100.0f;
    layers.push_back({q, k, Tensor::full({1, T}, double(Dh) * 1e4, DType::f32)});
  }
  const AttentionSimilarity similarity = kernels::attention_similarity(layers, 1.0);
  for (const double cosine : similarity.flat.to_vector<double>()) EXPECT_NEAR(cosine, 1, 1e-14);
  EXPECT_EQ(similarity.no_first_column.to_vector<double>(), (std::vector<double>{1, 0, 0, 1}));
}

TEST(AttentionSimilarityTest, AValueThatIsNotFiniteIsNotTakenForASimilarity) {
  const Sizes sizes{3, 50, 2, 2, 8};
  for (const bool in_query : {false, true}) {
    auto layers = random_layers(sizes, DType::f32);
    (in_query ? layers[1].q : layers[1].k).data<float>()[0] = std::nanf("");
    const Tensor flat = kernels::attention_similarity(layers, sizes.scale()).flat;
    EXPECT_TRUE(std::isnan(flat.data<double>()[1])) << in_query;
    EXPECT_TRUE(std::isfinite(flat.data<double>()[2])) << in_query;
  }
}

TEST(AttentionSimilarityTest, RefusesLayersThatDiffer) {
  auto layers = random_layers({2, 8, 2, 2, 8}, DType::f32);
  layers[1] = random_layers({1, 9, 2, 2, 8}, DType::f32)[0];
  EXPECT_NE(error_message(ExitCode::internal, [&] { kernels::attention_similarity(layers, 1.0); }).find("layers differ"),
            std::string::npos);
}

struct GoldenCase {
  const char* model;
  DType dtype;
};
class GoldenSimilarityTest : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenSimilarityTest, MeanAndStandardErrorOfAllVariantsEqualTheReference) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  const GoldenValues golden(*shared, GetParam().model);
  const auto model = golden.teacher(GetParam().dtype);
  const nlohmann::json& expected = golden.values.at("similarity");
  std::vector<SimilarityStatistics> statistics(4, SimilarityStatistics(model->config().num_hidden_layers));
  for (const auto& row : expected.at("rows")) {
    const auto similarity = attention_similarity(*model, row.get<std::vector<int32_t>>(), GetParam().dtype);
    for (size_t variant = 0; variant < 4; ++variant) statistics[variant].add(similarity[variant]);
  }
  const double tolerance = GetParam().dtype == DType::f64 ? 1e-10 : 1e-6;  // the reference is stored in f64
  for (const SimilarityVariant variant : kSimilarityVariants) {
    const std::string name(variant_name(variant));
    const SquareMatrix& mean = statistics[size_t(variant)].mean();
    const SquareMatrix error = statistics[size_t(variant)].standard_error().value();
    for (int64_t i = 0; i < mean.size(); ++i)
      for (int64_t j = 0; j < mean.size(); ++j) {
        EXPECT_NEAR(mean(i, j), expected.at(name).at("mean").at(size_t(i)).at(size_t(j)).get<double>(), tolerance)
            << name << i << j;
        EXPECT_NEAR(error(i, j), expected.at(name).at("standard_error").at(size_t(i)).at(size_t(j)).get<double>(), tolerance)
            << name << i << j;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenSimilarityTest,
                         testing::Values(GoldenCase{"stories260K", DType::f64}, GoldenCase{"stories260K", DType::f32},
                                         GoldenCase{"stories12L", DType::f64}, GoldenCase{"stories12L", DType::f32}),
                         [](const auto& instance) { return concat(instance.param.model, "_", instance.param.dtype); });

LlamaConfig small_config() {
  LlamaConfig config;
  config.vocab_size = 64, config.hidden_size = 32, config.intermediate_size = 48, config.num_hidden_layers = 4;
  config.num_attention_heads = 4, config.num_key_value_heads = 2, config.head_dim = 8;
  return config;
}

std::vector<int32_t> some_text(int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < tokens; ++t) ids.push_back(int32_t(t * t % 61));
  return ids;
}

TEST(AttentionSimilarityTest, AFollowerHasItsLeadersSimilarities) {
  const auto model = make_model(small_config(), LeaderMap({0, 1, 1, 3}), {DType::f64, false});
  initialize(*model, 0.3, 1);
  for (const SquareMatrix& similarity : attention_similarity(*model, some_text(50), DType::f64)) {
    EXPECT_NEAR(similarity(1, 2), 1, 1e-14);
    EXPECT_EQ(similarity(2, 3), similarity(1, 3));
    EXPECT_EQ(similarity(0, 2), similarity(0, 1));
    EXPECT_LT(similarity(0, 1), 0.9999);
    EXPECT_LT(similarity(0, 3), 0.9999);
  }
}

TEST(AttentionSimilarityTest, MemoryGrowsLinearlyInTheLengthOfTheText) {
  const auto model = make_model(small_config(), LeaderMap::own(4), {DType::f32, false});
  initialize(*model, 0.3, 1);
  CpuAllocator& allocator = CpuAllocator::instance();
  const auto peak_at = [&](int64_t tokens) {
    attention_similarity(*model, some_text(tokens), DType::f32);  // the rotation table has its length afterwards
    allocator.reset_peak();
    const int64_t before = allocator.statistics().in_use;
    attention_similarity(*model, some_text(tokens), DType::f32);
    const MemoryStatistics statistics = allocator.statistics();
    EXPECT_LT(statistics.largest_request, tokens * tokens * 4) << tokens;
    return double(statistics.peak - before);
  };
  const double at_512 = peak_at(512), at_1024 = peak_at(1024), at_2048 = peak_at(2048);
  // Linear: the second doubling costs twice the first (sizes are rounded up by at most an eighth); quadratic: four times.
  EXPECT_LT(at_2048 - at_1024, 2.5 * (at_1024 - at_512));
  EXPECT_LT(at_2048, 2048 * 2048 * 4);  // everything together is less than one matrix
}

}  // namespace
}  // namespace echo
