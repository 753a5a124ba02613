#include "kernels/decode/cache_append.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"

namespace echo {
namespace {

kernels::RopeTable some_table(int64_t positions, int64_t half) {
  return {random_tensor({positions, half}, DType::f64, 11), random_tensor({positions, half}, DType::f64, 12)};
}

TEST(CacheAppendTest, EachSequenceIsWrittenAndTurnedAtItsOwnPosition) {
  const int64_t capacity = 5, heads = 4, key_heads = 2, width = 6;
  const std::vector<int32_t> positions = {4, 0, 2};
  const Tensor lengths = Tensor::from(std::vector<int32_t>{5, 1, 3});
  const kernels::RopeTable table = some_table(7, width / 2);
  const Tensor qkv = random_tensor({3, 1, heads + 2 * key_heads, width}, DType::f64, 1), before = qkv.clone();
  Tensor q = qkv.narrow(2, 0, heads);
  const Tensor k = qkv.narrow(2, heads, key_heads), v = qkv.narrow(2, heads + key_heads, key_heads);
  Tensor k_cache = Tensor::full({3, capacity, key_heads, width}, -7, DType::f64), v_cache = k_cache.clone();
  kernels::rotate_and_append(q, k_cache, v_cache, k, v, table, lengths);
  for (int64_t b = 0; b < 3; ++b) {
    const int64_t position = positions[size_t(b)];
    Tensor turned = before.narrow(0, b, 1).clone();
    kernels::rope(turned, turned, table, position, kernels::RopeDirection::forward);
    EXPECT_EQ(q.narrow(0, b, 1).to_vector<double>(), turned.narrow(2, 0, heads).to_vector<double>());
    for (int64_t s = 0; s < capacity; ++s) {
      const auto of = [&](const Tensor& cache) { return cache.select(0, b).select(0, s).to_vector<double>(); };
      const std::vector<double> untouched(size_t(key_heads * width), -7.0);
      EXPECT_EQ(of(k_cache), s == position ? turned.narrow(2, heads, key_heads).to_vector<double>() : untouched);
      EXPECT_EQ(of(v_cache), s == position ? v.narrow(0, b, 1).to_vector<double>() : untouched);
    }
  }
}

TEST(CacheAppendTest, LengthsGrowUpToTheCapacity) {
  Tensor lengths = Tensor::from(std::vector<int32_t>{0, 3, 4});
  kernels::extend_lengths(lengths, 4);
  EXPECT_EQ(lengths.to_vector<int32_t>(), (std::vector<int32_t>{1, 4, 4}));
}

TEST(CacheAppendTest, LengthsBeyondTheCacheAreRefused) {
  Tensor cache = Tensor::zeros({1, 4, 2, 8}, DType::f32);
  const Tensor rows = Tensor::zeros({1, 1, 2, 8}, DType::f32);
  for (const int32_t length : {0, 5})
    EXPECT_THROW(kernels::append_to_cache(cache, rows, Tensor::from(std::vector<int32_t>{length})), Error);
}

}  // namespace
}  // namespace echo
