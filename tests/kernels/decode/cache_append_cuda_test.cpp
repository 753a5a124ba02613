#include "kernels/decode/cache_append.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

struct Case {
  int64_t heads, key_heads, width, capacity;
  std::vector<int32_t> lengths;  // before the step
};

std::vector<Tensor> one_step(const ParitySetting& on, const Case& c) {
  const int64_t batch = int64_t(c.lengths.size());
  const Tensor qkv = on.input({batch, 1, c.heads + 2 * c.key_heads, c.width}, 1);
  const Shape cache{batch, c.capacity, c.key_heads, c.width};
  Tensor q = qkv.narrow(2, 0, c.heads), k_cache = on.input(cache, 2), v_cache = on.input(cache, 3),
         follower_cache = on.input(cache, 4);
  const kernels::RopeTable table{on.wide_input({c.capacity + 1, c.width / 2}, 5),
                                 on.wide_input({c.capacity + 1, c.width / 2}, 6)};
  const Tensor v = qkv.narrow(2, c.heads + c.key_heads, c.key_heads);
  Tensor lengths = on.indices(c.lengths, {batch});
  kernels::extend_lengths(lengths, c.capacity);
  kernels::rotate_and_append(q, k_cache, v_cache, qkv.narrow(2, c.heads, c.key_heads), v, table, lengths);
  kernels::append_to_cache(follower_cache, v, lengths);
  return {qkv, k_cache, v_cache, follower_cache};
}

// f32: two products and a sum. bf16: the result rounds once, by up to 2^-8 of its size.
TEST(CudaCacheAppendTest, AgreesWithF64OnTheCpu) {
  for (const Case& c : {Case{1, 1, 2, 1, {0}}, Case{6, 2, 64, 9, {8, 0, 4}}, Case{3, 3, 10, 4, {2, 3}}, Case{2, 1, 8, 3, {}}}) {
    SCOPED_TRACE(concat(c.heads, " heads of ", c.width));
    const ParityCase body = [&c](const ParitySetting& on) { return one_step(on, c); };
    expect_parity(body, DType::f32, 3e-7);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

// Lengths are read on the device. A wrong length must not cause a write out of bounds.
TEST(CudaCacheAppendTest, LengthsOutsideTheCacheAreTakenForTheNearestInside) {
  const auto outputs = [](const std::vector<int32_t>& lengths) {
    return run_on_cuda([&](const ParitySetting& on) { return one_step(on, {2, 1, 4, 5, lengths}); }, DType::f32);
  };
  const std::vector<Tensor> expected = outputs({4, 0, 4}), actual = outputs({17, -9, 5});
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(expected[i].to_vector<float>(), actual[i].to_vector<float>()) << i;
}

}  // namespace
}  // namespace echo
