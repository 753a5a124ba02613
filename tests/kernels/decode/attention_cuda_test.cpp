#include <gtest/gtest.h>

#include "kernels/decode/attention.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

struct Case {
  int64_t heads, key_heads, width, capacity;
  std::vector<int32_t> lengths;
  bool sliced = false;  // caches and queries with elements between their rows
};

// A leader's step, and a follower's step with its probabilities.
std::vector<Tensor> leader_and_follower(const ParitySetting& on, const Case& c) {
  const int64_t batch = int64_t(c.lengths.size()), gap = c.sliced ? 1 : 0;
  const auto rows = [&](const Shape& shape, uint64_t seed) {
    return on.input(shape.with_last(c.width + gap), seed).narrow(-1, 0, c.width);
  };
  const Tensor q = rows({batch, c.heads, 0}, 1);
  const Shape cache{batch, c.capacity, c.key_heads, 0};
  const Tensor k = rows(cache, 2), v = rows(cache, 3), follower_v = rows(cache, 4), lengths = on.indices(c.lengths, {batch});
  Tensor o = on.output({batch, c.heads, c.width}), follower_o = on.output({batch, c.heads, c.width}),
         alone = on.output(o.shape());
  // Random values also beyond the lengths, where the call must not change them.
  Tensor probabilities = on.wide_input({batch, c.heads, c.capacity}, 5), none;
  const double scale = 1 / std::sqrt(double(c.width));
  kernels::attention_decode(o, probabilities, q, k, v, lengths, scale);
  kernels::shared_attention_decode(follower_o, probabilities, follower_v, lengths);
  kernels::attention_decode(alone, none, q, k, v, lengths, scale);
  return {o, probabilities, follower_o, alone};
}

// f32: scores of 256 products and sums over 140 positions, each with an error of 2^-24 of its terms. bf16: q, k and v are the
// same numbers on both sides and everything between is f32, so only the outputs are rounded, by half an ulp.
TEST(CudaAttentionDecodeTest, AgreesWithF64OnTheCpu) {
  for (const Case& c :
       {Case{1, 1, 8, 1, {1}}, Case{8, 1, 64, 140, {140, 64, 65}}, Case{6, 2, 40, 70, {70, 1}}, Case{3, 3, 128, 66, {65}},
        Case{11, 1, 16, 30, {29}}, Case{4, 2, 256, 20, {17}}, Case{4, 2, 7, 70, {70, 33}}, Case{4, 2, 16, 70, {67, 3}, true}}) {
    SCOPED_TRACE(concat(c.heads, " heads, ", c.key_heads, " key heads of ", c.width, ", capacity ", c.capacity));
    const ParityCase body = [&c](const ParitySetting& on) { return leader_and_follower(on, c); };
    expect_parity(body, DType::f32, 2e-6);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

// Lengths are read on the device. A wrong length must not cause a read out of bounds.
TEST(CudaAttentionDecodeTest, LengthsOutsideTheCacheAreTakenForTheNearestInside) {
  const auto outputs = [](const std::vector<int32_t>& lengths) {
    return run_on_cuda([&](const ParitySetting& on) { return leader_and_follower(on, {4, 2, 8, 70, lengths}); }, DType::f32);
  };
  const std::vector<Tensor> expected = outputs({1, 70, 1}), actual = outputs({0, 71, -2000000000});
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(expected[i].to_vector<float>(), actual[i].to_vector<float>()) << i;
}

TEST(CudaAttentionDecodeTest, ANumberThatIsNoneReachesTheOutput) {
  Tensor q = Tensor::full({1, 1, 8}, 1, DType::f32, kCuda), cache = Tensor::full({1, 70, 1, 8}, 1, DType::f32, kCuda);
  Tensor damaged = Tensor::full({1, 70, 1, 8}, 1, DType::f32);
  damaged.data<float>()[69 * 8 + 1] = std::nanf("");
  damaged = damaged.to(kCuda);
  Tensor o = Tensor::empty({1, 1, 8}, DType::f32, kCuda), none;
  const Tensor lengths = Tensor::from(std::vector<int32_t>{70}).to(kCuda);
  kernels::attention_decode(o, none, q, damaged, cache, lengths, 1);
  for (const float value : o.to_vector<float>()) EXPECT_TRUE(std::isnan(value));
  kernels::attention_decode(o, none, q, cache, damaged, lengths, 1);
  EXPECT_TRUE(std::isnan(o.to_vector<float>()[1]));
  EXPECT_EQ(o.to_vector<float>()[0], 1.0f);
}

}  // namespace
}  // namespace echo
