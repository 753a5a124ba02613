#include "kernels/decode/attention.h"

#include <gtest/gtest.h>

#include "kernels/attention/attention.h"
#include "tests/kernels/random_tensor.h"

namespace echo {
namespace {

// Decoding position by position must give what the forward pass gives for the whole sequence, for leader and follower.
template <class T>
void expect_decoding_matches_forward(int64_t heads, int64_t key_heads, int64_t width, double tolerance) {
  using A = accumulator<T>;
  const int64_t positions = 37, capacity = 40;
  const double scale = 1 / std::sqrt(double(width));
  const Tensor q = random_tensor({2, positions, heads, width}, dtype_of<T>, 1);
  const Tensor k = random_tensor({2, capacity, key_heads, width}, dtype_of<T>, 2),
               v = random_tensor({2, capacity, key_heads, width}, dtype_of<T>, 3);
  const Tensor other_v = random_tensor({2, capacity, key_heads, width}, dtype_of<T>, 4);
  Tensor o = Tensor::zeros_like(q), other_o = Tensor::zeros_like(q);
  Tensor lse = Tensor::zeros({2, heads, positions}, dtype_of<A>);
  kernels::attention_forward(o, lse, q, k.narrow(1, 0, positions), v.narrow(1, 0, positions), {}, scale);
  kernels::shared_attention_forward(other_o, q, k.narrow(1, 0, positions), lse, other_v.narrow(1, 0, positions), {}, scale);
  Tensor step = Tensor::zeros({2, heads, width}, dtype_of<T>),
         probabilities = Tensor::full({2, heads, capacity}, -1, dtype_of<A>);
  for (int64_t t = 0; t < positions; ++t) {
    // The two sequences are at different lengths.
    const std::vector<int32_t> lengths = {int32_t(t + 1), int32_t(positions - t)};
    Tensor queries = Tensor::zeros({2, heads, width}, dtype_of<T>);
    for (int64_t b = 0; b < 2; ++b) {
      Tensor row = queries.select(0, b);
      row.copy_from(q.select(0, b).select(0, lengths[size_t(b)] - 1));
    }
    for (const bool follower : {false, true}) {
      if (follower)
        kernels::shared_attention_decode(step, probabilities, other_v, Tensor::from(lengths));
      else
        kernels::attention_decode(step, probabilities, queries, k, v, Tensor::from(lengths), scale);
      for (int64_t b = 0; b < 2; ++b) {
        const std::vector<T> actual = step.select(0, b).to_vector<T>();
        const std::vector<T> expected =
            (follower ? other_o : o).select(0, b).select(0, lengths[size_t(b)] - 1).template to_vector<T>();
        for (size_t i = 0; i < actual.size(); ++i)
          ASSERT_NEAR(double(actual[i]), double(expected[i]), tolerance) << dtype_of<T> << ' ' << t;
      }
    }
    const std::vector<A> row = probabilities.select(0, 1).select(0, 0).template to_vector<A>();
    double sum = 0;
    for (int64_t s = 0; s < lengths[1]; ++s) sum += double(row[size_t(s)]);
    ASSERT_NEAR(sum, 1, 1e-6);
  }
  EXPECT_EQ(probabilities.to_vector<A>().back(), A(-1)) << "entries beyond the length are left alone";
}

TEST(AttentionDecodeTest, StepByStepEqualsTheForwardPass) {
  expect_decoding_matches_forward<double>(4, 2, 16, 1e-13);
  expect_decoding_matches_forward<double>(8, 1, 20, 1e-13);
  expect_decoding_matches_forward<float>(6, 2, 64, 1e-5);        // two orders of summing up to 64 products
  expect_decoding_matches_forward<bfloat16>(4, 4, 8, 1.0 / 64);  // values up to 4, stored with 8 bits
}

TEST(AttentionDecodeTest, LengthsBeyondTheCacheAreRefused) {
  Tensor q = Tensor::zeros({1, 2, 8}, DType::f32), o = Tensor::zeros_like(q), cache = Tensor::zeros({1, 4, 2, 8}, DType::f32);
  Tensor probabilities = Tensor::zeros({1, 2, 4}, DType::f32);
  for (const int32_t length : {0, 5}) {
    const Tensor lengths = Tensor::from(std::vector<int32_t>{length});
    EXPECT_THROW(kernels::attention_decode(o, probabilities, q, cache, cache, lengths, 1), Error);
    EXPECT_THROW(kernels::shared_attention_decode(o, probabilities, cache, lengths), Error);
  }
}

}  // namespace
}  // namespace echo
