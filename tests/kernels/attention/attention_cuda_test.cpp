#include "kernels/attention/attention.h"
#include "kernels/attention/choice.h"
#include "tensor/cuda_device.h"
#include "tests/kernels/attention/attention_reference.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::cuda::AttentionKernels;
using kernels::cuda::ScopedAttentionKernels;

enum class Layout {
  packed,     // every tensor in its own memory
  fused,      // q, k, v and their gradients are slices of one projection's output; rows stay aligned to 16 bytes
  unaligned,  // heads before positions, rows at odd addresses
};

struct Case {
  int64_t batches = 1, positions = 64, heads = 1, key_heads = 1, width = 16;
  int layers = 1;
  Layout layout = Layout::packed;
  bool documents = false;
  double magnitude = 1;
  AttentionKernels kernels = AttentionKernels::best;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "B " << c.batches << " T " << c.positions << " H " << c.heads << " Hkv " << c.key_heads << " Dh " << c.width
             << " layers " << c.layers
             << (c.layout == Layout::packed  ? ""
                 : c.layout == Layout::fused ? " fused"
                                             : " unaligned")
             << (c.documents ? " documents" : "") << " magnitude " << c.magnitude << " kernels " << int(c.kernels);
}

// The number of multiprocessors determines whether groups are split over several blocks, and whether whole heads are quicker.
// This sets the number that the kernels' schedules assume, for one scope, on the emulated device and on a real one.
class ScopedMultiprocessors {
 public:
  explicit ScopedMultiprocessors(int count) {
    if constexpr (kWithCuda) std::swap(multiprocessors(), count);
    before_ = count;
  }
  ~ScopedMultiprocessors() {
    if constexpr (kWithCuda) multiprocessors() = before_;
  }
  ScopedMultiprocessors(const ScopedMultiprocessors&) = delete;
  ScopedMultiprocessors& operator=(const ScopedMultiprocessors&) = delete;

 private:
  static int& multiprocessors() { return const_cast<cuda::DeviceProperties&>(cuda::properties()).multiprocessors; }
  int before_;
};

// The inputs of a case, in order: q, k, then v and d_o of each layer.
std::vector<Tensor> inputs(const Case& c, DType dtype) {
  std::vector<Tensor> result;
  const auto add = [&](int64_t heads, double size) {
    result.push_back(random_tensor({c.batches, c.positions, heads, c.width}, dtype, result.size() + 1, size));
  };
  add(c.heads, c.magnitude);
  add(c.key_heads, c.magnitude);
  for (int j = 0; j < c.layers; ++j) add(c.key_heads, 1), add(c.heads, 1);
  return result;
}

std::vector<int32_t> first_keys(const Case& c) {
  std::vector<int32_t> first;
  if (!c.documents) return first;
  RandomSequence random(17);
  for (int64_t b = 0; b < c.batches; ++b) {
    int32_t start = 0;
    for (int32_t t = 0; t < c.positions; ++t) {
      if (random.uniform() < std::min(0.03, 5.0 / double(c.positions))) start = t;
      first.push_back(start);
    }
  }
  return first;
}

// Memory with the requested layout for (B, T, heads, Dh), on a device. Everything outside the tensor is NaN.
Tensor strided(const Case& c, int64_t heads, int64_t fused_from, DType dtype, Device device) {
  const auto whole = [&](const Shape& shape) {
    const std::vector<float> nothing(size_t(shape.elements()), std::nanf(""));
    return kernels::cast(Tensor::from(nothing, shape), dtype).to(device);
  };
  if (c.layout == Layout::fused && fused_from >= 0)
    return whole({c.batches, c.positions, c.heads + 2 * c.key_heads, c.width}).narrow(2, fused_from, heads);
  if (c.layout == Layout::unaligned)
    return whole({c.batches, heads, c.positions + 3, c.width + 5})
        .transpose(1, 2)
        .narrow(1, 2, c.positions)
        .narrow(3, 1, c.width);
  return whole({c.batches, c.positions, heads, c.width});
}

// Forward and backward passes of a block. Returns lse, delta, dq, dk, then o and dv of each layer.
std::vector<Tensor> run_block(const Case& c, const ParitySetting& on) {
  const ScopedAttentionKernels chosen(c.kernels);
  const std::vector<Tensor> given = inputs(c, on.rounded_to);
  size_t next = 0;
  const auto input = [&](int64_t fused_from) {
    const Tensor plain = kernels::cast(given[next++], on.dtype).to(on.device);
    Tensor result = strided(c, plain.dim(2), fused_from, on.dtype, on.device);
    result.copy_from(plain);
    return result;
  };
  const auto output = [&](int64_t heads, int64_t fused_from) { return strided(c, heads, fused_from, on.dtype, on.device); };
  const double scale = 1 / std::sqrt(double(c.width));
  const int64_t values_from = c.heads + c.key_heads;
  const Tensor q = input(0), k = input(c.heads);
  Tensor dq = output(c.heads, 0), dk = output(c.key_heads, c.heads);
  Tensor lse = on.wide_output({c.batches, c.heads, c.positions});
  Tensor delta = Tensor::zeros(lse.shape(), lse.dtype(), on.device);
  const Tensor first_key = c.documents ? Tensor::from(first_keys(c), {c.batches, c.positions}).to(on.device) : Tensor();

  std::vector<kernels::SharingLayer> layers;
  std::vector<Tensor> o, dv;
  for (int j = 0; j < c.layers; ++j) {
    const Tensor v = input(j == 0 ? values_from : -1);
    layers.push_back({input(-1), v});
    o.push_back(output(c.heads, -1));
    dv.push_back(output(c.key_heads, j == 0 ? values_from : -1));
    if (j == 0)
      kernels::attention_forward(o[0], lse, q, k, v, first_key, scale);
    else
      kernels::shared_attention_forward(o.back(), q, k, lse, v, first_key, scale);
  }
  for (int j = 0; j < c.layers; ++j) {
    const size_t layer = size_t(j);
    kernels::attention_delta(delta, layers[layer].d_o, o[layer]);
    if (j > 0) kernels::attention_value_backward(dv[layer], layers[layer].d_o, q, k, lse, first_key, scale);
  }
  kernels::attention_backward(dq, dk, dv[0], layers, q, k, lse, delta, first_key, scale);
  std::vector<Tensor> results = {lse, delta, dq, dk};
  results.insert(results.end(), o.begin(), o.end());
  results.insert(results.end(), dv.begin(), dv.end());
  return results;
}

ReferenceAttention reference(const Case& c, DType dtype) {
  ReferenceAttention result;
  result.batches = c.batches;
  result.positions = c.positions;
  result.heads = c.heads;
  result.key_heads = c.key_heads;
  result.width = c.width;
  result.scale = 1 / std::sqrt(double(c.width));
  const std::vector<Tensor> given = inputs(c, dtype);
  result.q = values_of(given[0]);
  result.k = values_of(given[1]);
  for (size_t i = 2; i < given.size(); i += 2) {
    result.v.push_back(values_of(given[i]));
    result.d_o.push_back(values_of(given[i + 1]));
  }
  result.first_key = first_keys(c);
  return result;
}

std::vector<std::pair<std::string, std::vector<double>>> results_of(const ReferenceAttention& r) {
  std::vector<std::pair<std::string, std::vector<double>>> results = {
      {"lse", r.lse}, {"delta", r.delta}, {"dq", r.dq}, {"dk", r.dk}};
  for (size_t j = 0; j < r.o.size(); ++j) results.emplace_back(concat("o ", j), r.o[j]);
  for (size_t j = 0; j < r.dv.size(); ++j) results.emplace_back(concat("dv ", j), r.dv[j]);
  return results;
}

// f32: within `tolerance` of the formula with full matrices in f64. bf16: at most twice as far from it as the simple version,
// in which the scores, P, dP and dS are stored in bf16. Storing the result always costs half a unit in the last place.
void expect_block(const Case& c, DType dtype, double tolerance) {
  const std::vector<Tensor> ours = run_on_cuda([&](const ParitySetting& on) { return run_block(c, on); }, dtype);
  ReferenceAttention exact = reference(c, dtype), rounded = exact;
  exact.run();
  if (dtype == DType::bf16) rounded.run([](double value) { return double(float(bfloat16(float(value)))); });
  const auto expected = results_of(exact), plain = results_of(rounded);
  ASSERT_EQ(ours.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double allowed = dtype == DType::bf16 ? 2 * distance(plain[i].second, expected[i].second) + 1.0 / 512 : tolerance;
    EXPECT_LE(distance(values_of(ours[i]), expected[i].second), allowed) << expected[i].first << ", " << dtype << ' ' << c;
  }
}

// Rounding of scores up to about 10 (5e-7 of each probability) dominates. Exponentials have an error of 2 units in the last
// place.
constexpr double kF32Tolerance = 5e-6;

TEST(CudaAttentionTest, PlainKernelsMatchTheMaterialisedFormula) {
  const std::vector<Case> cases = {
      {.positions = 1},
      {.positions = 17, .heads = 2, .key_heads = 1, .width = 8, .layers = 3},
      {.batches = 2, .positions = 33, .heads = 4, .key_heads = 1, .width = 48, .layers = 2, .layout = Layout::unaligned},
      {.positions = 65, .width = 20, .layers = 2, .layout = Layout::fused, .documents = true},
      {.batches = 2, .positions = 40, .width = 64, .layout = Layout::unaligned, .documents = true},
  };
  for (const Case& c : cases) {
    expect_block(c, DType::f32, kF32Tolerance);
    expect_block(c, DType::bf16, 0);
  }
  expect_block({.positions = 35, .width = 130, .layers = 2}, DType::f32, kF32Tolerance);
  expect_block({.positions = 70, .heads = 2, .width = 64, .layers = 2, .layout = Layout::unaligned}, DType::bf16, 0);
}

TEST(CudaAttentionTest, TensorCoreKernelsMatchTheMaterialisedFormula) {
  const ScopedMultiprocessors four(4);
  const std::vector<Case> cases = {
      {.positions = 1, .width = 64},
      {.positions = 5, .heads = 2, .width = 128, .layers = 2},
      {.positions = 63, .heads = 8, .width = 64},
      {.positions = 64, .width = 64, .layers = 5, .layout = Layout::fused},
      {.positions = 65, .heads = 4, .width = 128, .layers = 3},
      {.positions = 130, .heads = 2, .key_heads = 2, .width = 64, .layers = 2, .layout = Layout::fused, .documents = true},
      {.positions = 200, .width = 128, .documents = true},
      {.positions = 66, .heads = 2, .width = 48, .layers = 2, .layout = Layout::fused},
      {.positions = 9, .heads = 2, .width = 104},
      // Enough blocks that one block adds up a whole group; and more layers than fit into shared memory.
      {.batches = 4, .positions = 17, .heads = 4, .key_heads = 2, .width = 64, .layers = 2},
      {.positions = 130, .width = 64, .layers = 2, .magnitude = 8},
      {.positions = 20, .width = 64, .layers = 13},
      {.positions = 20, .width = 128, .layers = 7},
  };
  for (Case c : cases)
    for (const AttentionKernels kernels : {AttentionKernels::best, AttentionKernels::sm80}) {
      c.kernels = kernels;
      expect_block(c, DType::bf16, 0);
    }
}

// More tiles than slots for them, more work than blocks, and keys divided over several blocks.
TEST(CudaAttentionTest, HopperKernelsTakeAnyNumberOfTiles) {
  const ScopedMultiprocessors four(4);
  const std::vector<Case> cases = {
      {.positions = 420, .heads = 2, .width = 64, .layers = 2},
      {.positions = 390, .width = 56, .layers = 3, .layout = Layout::fused, .documents = true},
      {.positions = 300, .width = 128, .layers = 2, .documents = true},
      {.batches = 3, .positions = 70, .heads = 8, .width = 64, .layers = 2, .layout = Layout::fused},
      {.batches = 2, .positions = 193, .heads = 4, .key_heads = 4, .width = 104},
      {.positions = 130, .width = 64, .layers = 5, .magnitude = 4},
  };
  for (const Case& c : cases) expect_block(c, DType::bf16, 0);
}

TEST(CudaAttentionTest, BlocksThatOwnWholeHeadsMatchTheMaterialisedFormula) {
  const ScopedMultiprocessors four(4);
  const std::vector<Case> cases = {
      {.positions = 1, .heads = 3, .width = 64},
      {.positions = 63, .width = 64, .layers = 5},  // five layers: shared memory for only 32 queries of dS
      {.positions = 64, .heads = 4, .width = 48, .layers = 2, .layout = Layout::fused},
      {.positions = 65, .heads = 4, .width = 64, .layers = 4},  // four: dO arrives two at a time
      {.positions = 130, .heads = 4, .key_heads = 4, .width = 64, .layout = Layout::fused, .documents = true},
      {.positions = 200, .width = 64, .layers = 3, .magnitude = 8},
      {.positions = 20, .heads = 3, .width = 64, .layers = 7},  // no room
      // Several tiles of keys: two heads to a block; queries that do not see the first keys; 32 queries at a time.
      {.positions = 260, .heads = 8, .key_heads = 2, .width = 40, .layout = Layout::fused},
      {.positions = 520, .width = 64, .documents = true},
      {.positions = 290, .width = 64, .layers = 5},
  };
  for (Case c : cases) {
    c.kernels = AttentionKernels::sm80_whole_heads;
    expect_block(c, DType::bf16, 0);
  }
}

// The case is small: whole heads fill one multiprocessor, but not a hundred.
TEST(CudaAttentionTest, ResultsOfAllKernelsAndDeviceSizesMatchTheMaterialisedFormula) {
  for (const AttentionKernels kernels : {AttentionKernels::sm80, AttentionKernels::plain})
    for (const int multiprocessors : {1, 100}) {
      const ScopedMultiprocessors device(multiprocessors);
      expect_block({.positions = 40, .heads = 4, .key_heads = 2, .width = 64, .layers = 2, .kernels = kernels}, DType::bf16, 0);
    }
}

TEST(CudaAttentionTest, LargeScoresStayFiniteAndProbabilitiesSumToOne) {
  for (Case c : {Case{.width = 16}, Case{.width = 64}, Case{.width = 64, .kernels = AttentionKernels::sm80},
                 Case{.heads = 3, .width = 64, .kernels = AttentionKernels::sm80_whole_heads}}) {
    c.positions = 70, c.layers = 2, c.magnitude = 1e6;
    const ParityCase body = [&](const ParitySetting& on) {
      const std::vector<Tensor> results = run_block(c, on);
      Tensor ones =
          kernels::cast(Tensor::from(std::vector<float>(size_t(70 * c.width), 1), {1, 70, 1, c.width}), on.dtype).to(on.device);
      const ScopedAttentionKernels chosen(c.kernels);
      const std::vector<Tensor> given = inputs(c, on.dtype);
      Tensor o = on.output(given[0].shape()), lse = on.wide_output({1, c.heads, 70});
      kernels::attention_forward(o, lse, given[0].to(on.device), given[1].to(on.device), ones, Tensor(), 1);
      std::vector<Tensor> all = {o};
      all.insert(all.end(), results.begin(), results.end());
      return all;
    };
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const std::vector<Tensor> results = run_on_cuda(body, dtype);
      for (const double value : values_of(results[0])) ASSERT_NEAR(value, 1.0, 1e-5) << dtype << ' ' << c;
      for (const Tensor& tensor : results)
        for (const double value : values_of(tensor)) ASSERT_TRUE(std::isfinite(value)) << dtype << ' ' << c;
    }
  }
}

TEST(CudaAttentionTest, FirstKeysThatDoNotExistGiveNanInTheirRowsOnly) {
  for (const Case& c : {Case{.positions = 70}, Case{.positions = 70, .width = 64},
                        Case{.positions = 70, .width = 64, .kernels = AttentionKernels::sm80}}) {
    std::vector<int32_t> first(70, 0);
    first[20] = 30;
    first[40] = 1 << 30;
    first[50] = -5;
    first[69] = 70;
    const ParityCase body = [&](const ParitySetting& on) {
      const ScopedAttentionKernels chosen(c.kernels);
      const std::vector<Tensor> given = inputs(c, on.dtype);
      Tensor o = on.output(given[0].shape()), lse = on.wide_output({1, 1, 70});
      kernels::attention_forward(o, lse, given[0].to(on.device), given[1].to(on.device), given[2].to(on.device),
                                 on.indices(first, {1, 70}), 1);
      return std::vector<Tensor>{o};
    };
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const std::vector<double> o = values_of(run_on_cuda(body, dtype)[0]);
      for (size_t t = 0; t < 70; ++t)
        EXPECT_EQ(std::isnan(o[t * size_t(c.width)]), t == 20 || t == 40 || t == 69) << dtype << ' ' << c << " row " << t;
    }
  }
}

TEST(CudaAttentionTest, ValueGradientOfTheLeaderMayBeLeftOut) {
  for (const Case& c : {Case{.positions = 20}, Case{.positions = 20, .width = 64}, Case{.positions = 20, .width = 128},
                        Case{.positions = 20, .width = 64, .kernels = AttentionKernels::sm80},
                        Case{.positions = 70, .heads = 3, .width = 64, .kernels = AttentionKernels::sm80_whole_heads}}) {
    const ParityCase body = [&](const ParitySetting& on) {
      const std::vector<Tensor> with = run_block(c, on);
      const ScopedAttentionKernels chosen(c.kernels);
      std::vector<Tensor> given;
      for (const Tensor& tensor : inputs(c, on.dtype)) given.push_back(tensor.to(on.device));
      const std::vector<kernels::SharingLayer> layers = {{given[3], given[2]}};
      Tensor dq = on.output(given[0].shape()), dk = on.output(given[1].shape()), none;
      kernels::attention_backward(dq, dk, none, layers, given[0], given[1], with[0], with[1], Tensor(),
                                  1 / std::sqrt(double(c.width)));
      return std::vector<Tensor>{with[2], dq, with[3], dk};
    };
    const std::vector<Tensor> results = run_on_cuda(body, DType::bf16);
    EXPECT_EQ(values_of(results[0]), values_of(results[1]));
    EXPECT_EQ(values_of(results[2]), values_of(results[3]));
  }
}

}  // namespace
}  // namespace echo
