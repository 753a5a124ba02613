#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/kernels/attention/attention_reference.h"
#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"

namespace echo {
namespace {

struct AttentionCase {
  int64_t batches = 1, positions = 64, heads = 2, key_heads = 2, width = 16;
  int layers = 1;
  bool strided = false, documents = false;
  double magnitude = 1;
};

std::ostream& operator<<(std::ostream& out, const AttentionCase& c) {
  return out << "B " << c.batches << " T " << c.positions << " H " << c.heads << " Hkv " << c.key_heads << " Dh " << c.width
             << " layers " << c.layers << (c.strided ? " strided" : "") << (c.documents ? " documents" : "") << " magnitude "
             << c.magnitude;
}

// All arguments and results of a block's calls, as tensors of one dtype.
struct Block {
  AttentionCase shape;
  double scale = 1;
  Tensor q, k, lse, delta, first_key, dq, dk;
  std::vector<Tensor> v, d_o, o, dv;

  Block(const AttentionCase& c, DType dtype, uint64_t seed) : shape(c), scale(1 / std::sqrt(double(c.width))) {
    RandomSequence random(seed);
    const int64_t T = c.positions;
    const auto fill = [&](Tensor& tensor, double magnitude) {
      dispatch_float(dtype, [&]<class E>() {
        E* data = tensor.data<E>();
        for (int64_t b = 0; b < tensor.dim(0); ++b)
          for (int64_t t = 0; t < tensor.dim(1); ++t)
            for (int64_t h = 0; h < tensor.dim(2); ++h)
              for (int64_t d = 0; d < tensor.dim(3); ++d)
                data[b * tensor.stride(0) + t * tensor.stride(1) + h * tensor.stride(2) + d] =
                    E(float(magnitude * random.normal()));
      });
    };
    // Strided: slices of one projection's output for q, k, v; heads before positions for the rest.
    const Tensor fused = Tensor::zeros({c.batches, T, c.heads + 2 * c.key_heads, c.width}, dtype);
    const auto make = [&](int64_t heads) {
      if (!c.strided) return Tensor::zeros({c.batches, T, heads, c.width}, dtype);
      return Tensor::zeros({c.batches, heads, T + 3, c.width + 5}, dtype).transpose(1, 2).narrow(1, 2, T).narrow(3, 1, c.width);
    };
    q = c.strided ? fused.narrow(2, 0, c.heads) : make(c.heads);
    k = c.strided ? fused.narrow(2, c.heads, c.key_heads) : make(c.key_heads);
    fill(q, c.magnitude);
    fill(k, c.magnitude);
    for (int j = 0; j < c.layers; ++j) {
      v.push_back(c.strided && j == 0 ? fused.narrow(2, c.heads + c.key_heads, c.key_heads) : make(c.key_heads));
      d_o.push_back(make(c.heads));
      o.push_back(make(c.heads));
      dv.push_back(make(c.key_heads));
      fill(v.back(), 1);
      fill(d_o.back(), 1);
    }
    dq = make(c.heads);
    dk = make(c.key_heads);
    lse = Tensor::zeros({c.batches, c.heads, T}, accumulator_dtype(dtype));
    delta = Tensor::zeros_like(lse);
    if (c.documents) {
      std::vector<int32_t> first(size_t(c.batches * T));
      for (int64_t b = 0; b < c.batches; ++b) {
        int32_t start = 0;
        for (int64_t t = 0; t < T; ++t) {
          if (random.uniform() < 0.03) start = int32_t(t);
          first[size_t(b * T + t)] = start;
        }
      }
      first_key = Tensor::from(first, {c.batches, T});
    }
  }

  void forward() {
    kernels::attention_forward(o[0], lse, q, k, v[0], first_key, scale);
    for (size_t j = 1; j < v.size(); ++j) kernels::shared_attention_forward(o[j], q, k, lse, v[j], first_key, scale);
  }
  void backward() {
    std::vector<kernels::SharingLayer> layers;
    for (size_t j = 0; j < v.size(); ++j) {
      kernels::attention_delta(delta, d_o[j], o[j]);
      layers.push_back({d_o[j], v[j]});
      if (j > 0) kernels::attention_value_backward(dv[j], d_o[j], q, k, lse, first_key, scale);
    }
    kernels::attention_backward(dq, dk, dv[0], layers, q, k, lse, delta, first_key, scale);
  }
  void run() {
    forward();
    backward();
  }
  ReferenceAttention reference() const {
    ReferenceAttention result;
    result.batches = shape.batches;
    result.positions = shape.positions;
    result.heads = shape.heads;
    result.key_heads = shape.key_heads;
    result.width = shape.width;
    result.scale = scale;
    result.q = values_of(q);
    result.k = values_of(k);
    for (const Tensor& tensor : v) result.v.push_back(values_of(tensor));
    for (const Tensor& tensor : d_o) result.d_o.push_back(values_of(tensor));
    if (first_key.defined()) result.first_key = first_key.to_vector<int32_t>();
    return result;
  }
};

struct NamedDistance {
  std::string name;
  double value;
};

std::vector<NamedDistance> distances(const Block& block, const ReferenceAttention& expected) {
  std::vector<NamedDistance> result = {{"lse", distance(values_of(block.lse), expected.lse)},
                                       {"delta", distance(values_of(block.delta), expected.delta)},
                                       {"dq", distance(values_of(block.dq), expected.dq)},
                                       {"dk", distance(values_of(block.dk), expected.dk)}};
  for (size_t j = 0; j < block.v.size(); ++j) {
    result.push_back({concat("o ", j), distance(values_of(block.o[j]), expected.o[j])});
    result.push_back({concat("dv ", j), distance(values_of(block.dv[j]), expected.dv[j])});
  }
  return result;
}

void expect_block_matches(const AttentionCase& shape, DType dtype, double tolerance) {
  Block block(shape, dtype, /*seed=*/7);
  block.run();
  ReferenceAttention expected = block.reference();
  expected.run();
  for (const NamedDistance& d : distances(block, expected))
    EXPECT_LE(d.value, tolerance) << d.name << ", " << dtype << ' ' << shape;
}

std::vector<AttentionCase> cases() {
  std::vector<AttentionCase> result;
  for (const int64_t positions : {1, 2, 15, 16, 17, 63, 64, 65, 130}) result.push_back({.positions = positions});
  for (const int64_t width : {8, 16, 20, 64, 80, 128})
    result.push_back({.positions = 70, .heads = 2, .key_heads = 1, .width = width});
  result.push_back({.batches = 2, .positions = 130, .heads = 8, .key_heads = 1, .width = 8});
  result.push_back({.batches = 2, .positions = 65, .heads = 6, .key_heads = 2, .width = 16});
  for (int layers = 2; layers <= 5; ++layers)
    result.push_back({.positions = 33 + 20 * layers, .heads = 4, .key_heads = 2, .width = 8 * layers, .layers = layers});
  result.push_back({.batches = 2, .positions = 130, .heads = 4, .key_heads = 2, .width = 20, .layers = 2, .strided = true});
  result.push_back({.batches = 2, .positions = 200, .heads = 2, .key_heads = 1, .width = 16, .layers = 2, .documents = true});
  result.push_back(
      {.batches = 3, .positions = 130, .heads = 2, .key_heads = 2, .width = 8, .strided = true, .documents = true});
  return result;
}

TEST(AttentionTest, BlocksMatchTheMaterialisedFormulaInF64) {
  // Sums of up to 200 products, each rounded to 1e-16.
  for (const AttentionCase& shape : cases()) expect_block_matches(shape, DType::f64, 1e-13);
}

TEST(AttentionTest, BlocksMatchTheMaterialisedFormulaInF32) {
  // Rounding of scores up to about 10 (5e-7 of each probability) dominates. Sums of up to 200 products add less.
  for (const AttentionCase& shape : cases()) expect_block_matches(shape, DType::f32, 3e-6);
}

TEST(AttentionTest, Bf16IsAtMostTwiceAsFarFromF64AsThePlainVersion) {
  for (const AttentionCase& shape : cases()) {
    Block block(shape, DType::bf16, /*seed=*/7);
    block.run();
    ReferenceAttention exact = block.reference(), plain = exact;
    exact.run();
    plain.run([](double value) { return double(float(bfloat16(float(value)))); });
    const auto ours = distances(block, exact);
    const double floor = 1.0 / 512;  // half a unit in the last place of bf16, the unavoidable cost of storing the result
    size_t index = 0;
    const auto check = [&](const char* name, const std::vector<double>& a, const std::vector<double>& b) {
      EXPECT_LE(ours[index].value, 2 * distance(a, b) + floor) << name << ' ' << shape;
      ++index;
    };
    check("lse", plain.lse, exact.lse);
    check("delta", plain.delta, exact.delta);
    check("dq", plain.dq, exact.dq);
    check("dk", plain.dk, exact.dk);
    for (size_t j = 0; j < block.v.size(); ++j) {
      check("o", plain.o[j], exact.o[j]);
      check("dv", plain.dv[j], exact.dv[j]);
    }
  }
}

TEST(AttentionTest, LargeScoresStayFiniteAndProbabilitiesSumToOne) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const double magnitude : {30.0, 1e4, 1e6}) {
      Block block({.positions = 130, .heads = 2, .key_heads = 1, .width = 16, .layers = 2, .magnitude = magnitude}, dtype, 3);
      // Values of one: every output is the sum of its row of probabilities.
      dispatch_float(dtype, [&]<class T>() { std::fill_n(block.v[0].data<T>(), block.v[0].elements(), T(1.0f)); });
      block.run();
      for (const double value : values_of(block.o[0])) ASSERT_NEAR(value, 1.0, 1e-5) << dtype << ' ' << magnitude;
      for (const Tensor* tensor : {&block.lse, &block.o[1], &block.dq, &block.dk, &block.dv[0], &block.dv[1]})
        for (const double value : values_of(*tensor)) ASSERT_TRUE(std::isfinite(value)) << dtype << ' ' << magnitude;
    }
  }
}

TEST(AttentionTest, SharpScoresMatchTheFormula) {
  // Scores up to about 300: f32 rounds them, and lse, to 1.5e-5, and every probability inherits that.
  expect_block_matches({.positions = 130, .width = 64, .layers = 2, .magnitude = 8}, DType::f64, 1e-12);
  expect_block_matches({.positions = 130, .width = 64, .layers = 2, .magnitude = 8}, DType::f32, 2e-4);
}

TEST(AttentionTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const AttentionCase shape{
        .batches = 2, .positions = 200, .heads = 8, .key_heads = 2, .width = 16, .layers = 3, .documents = true};
    expect_same_bits_on_any_number_of_threads([&] {
      Block block(shape, dtype, 11);
      block.run();
      std::vector results = {values_of(block.dq), values_of(block.dk), values_of(block.lse)};
      for (size_t j = 0; j < block.v.size(); ++j) {
        results.push_back(values_of(block.o[j]));
        results.push_back(values_of(block.dv[j]));
      }
      return results;
    });
  }
}

TEST(AttentionTest, DocumentsInOneRowGiveTheOutputsOfDocumentsApart) {
  const AttentionCase shape{.positions = 150, .heads = 4, .key_heads = 2, .width = 16};
  Block joined(shape, DType::f64, 5);
  std::vector<int32_t> first(150, 0);
  std::fill(first.begin() + 71, first.end(), 71);
  joined.first_key = Tensor::from(first, {1, 150});
  joined.run();
  Block alone({.positions = 79, .heads = 4, .key_heads = 2, .width = 16}, DType::f64, 5);
  alone.q = joined.q.narrow(1, 71, 79);
  alone.k = joined.k.narrow(1, 71, 79);
  alone.v[0] = joined.v[0].narrow(1, 71, 79);
  alone.d_o[0] = joined.d_o[0].narrow(1, 71, 79);
  alone.run();
  EXPECT_LE(distance(values_of(joined.o[0].narrow(1, 71, 79)), values_of(alone.o[0])), 1e-14);
  EXPECT_LE(distance(values_of(joined.dk.narrow(1, 71, 79)), values_of(alone.dk)), 1e-14);
}

TEST(AttentionTest, GradientOfAWholeBlockMatchesFiniteDifferences) {
  const AttentionCase shape{.positions = 19, .heads = 2, .key_heads = 1, .width = 8, .layers = 3, .documents = true};
  Block block(shape, DType::f64, 13);
  block.run();
  // The scalar sum_j <d_o_j, o_j>, whose gradient the block's backward pass gives.
  const auto objective = [&] {
    block.forward();
    double sum = 0;
    for (size_t j = 0; j < block.v.size(); ++j) {
      const auto a = values_of(block.o[j]), b = values_of(block.d_o[j]);
      for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    }
    return sum;
  };
  const auto check = [&](Tensor& input, const Tensor& gradient, const char* name) {
    const std::vector<double> analytic = values_of(gradient);
    for (int64_t i = 0; i < input.elements(); i += 3) {
      double& value = input.data<double>()[i];
      const double kept = value, step = 1e-5;
      value = kept + step;
      const double above = objective();
      value = kept - step;
      const double below = objective();
      value = kept;
      // Truncation of central differences is about step^2, their rounding 1e-15 / step.
      ASSERT_NEAR(analytic[size_t(i)], (above - below) / (2 * step), 1e-8) << name << ' ' << i;
    }
  };
  check(block.q, block.dq, "dq");
  check(block.k, block.dk, "dk");
  for (size_t j = 0; j < block.v.size(); ++j) check(block.v[j], block.dv[j], "dv");
}

TEST(AttentionTest, ValueGradientOfTheLeaderMayBeLeftOut) {
  Block block({.positions = 40}, DType::f64, 2), other({.positions = 40}, DType::f64, 2);
  block.run();
  other.forward();
  kernels::attention_delta(other.delta, other.d_o[0], other.o[0]);
  Tensor none;
  const std::vector<kernels::SharingLayer> layers = {{other.d_o[0], other.v[0]}};
  kernels::attention_backward(other.dq, other.dk, none, layers, other.q, other.k, other.lse, other.delta, other.first_key,
                              other.scale);
  EXPECT_EQ(values_of(block.dq), values_of(other.dq));
}

TEST(AttentionTest, ArgumentsThatDoNotFitAreNamed) {
  Block block({.positions = 8, .heads = 4, .key_heads = 2}, DType::f32, 1);
  const auto message = [&](auto&& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  Tensor wrong = Tensor::zeros({1, 8, 3, 16}, DType::f32);
  EXPECT_NE(message([&] {
              kernels::attention_forward(block.o[0], block.lse, block.q, wrong, block.v[0], {}, 1);
            }).find("4 heads are not a multiple of 3"),
            std::string::npos);
  EXPECT_NE(
      message([&] { kernels::attention_forward(block.o[0], block.lse, block.q, block.k, wrong, {}, 1); }).find("v must be"),
      std::string::npos);
  const Tensor late = Tensor::from(std::vector<int32_t>{0, 2, 0, 0, 0, 0, 0, 0}, {1, 8});
  EXPECT_NE(message([&] {
              kernels::attention_forward(block.o[0], block.lse, block.q, block.k, block.v[0], late, 1);
            }).find("first_key of position 1 is 2"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
