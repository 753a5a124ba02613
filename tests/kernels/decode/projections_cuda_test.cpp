#include "kernels/decode/projections.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::NormedRows;

struct Case {
  int32_t batch;
  int64_t width, heads, key_heads, head_dim, inner;
};

// Up to 16 rows use one kernel each. 17 rows, a width that is not a multiple of a vector, a head of 8 and an inner width of 20
// do not.
const Case kCases[] = {{1, 8, 1, 1, 16, 8},   {1, 1032, 2, 1, 32, 24}, {3, 264, 4, 2, 64, 40},
                       {5, 72, 2, 2, 16, 16}, {8, 520, 1, 1, 128, 8},  {9, 136, 2, 1, 16, 48},
                       {16, 40, 4, 1, 32, 8}, {17, 40, 2, 1, 16, 8},   {2, 44, 2, 1, 8, 20}};

NormedRows rows(const ParitySetting& on, const Case& c) {
  return {on.input({c.batch, c.width}, 1), on.input({c.width}, 2), 0.3};
}

std::vector<Tensor> heads(const ParitySetting& on, const Case& c) {
  const int64_t capacity = 4, columns = (c.heads + 2 * c.key_heads) * c.head_dim;
  std::vector<int32_t> lengths;
  for (int32_t b = 0; b < c.batch; ++b) lengths.push_back(1 + (3 * b + 2) % int32_t(capacity));
  const Shape cache{c.batch, capacity, c.key_heads, c.head_dim};
  Tensor projected = on.output({c.batch, columns}), k_cache = on.input(cache, 3), v_cache = on.input(cache, 4),
         follower = on.input(cache, 5);
  const kernels::RopeTable table{on.wide_input({capacity + 1, c.head_dim / 2}, 6),
                                 on.wide_input({capacity + 1, c.head_dim / 2}, 7)};
  const Tensor weight = on.input({columns, c.width}, 8, 1 / std::sqrt(double(c.width))), of = on.indices(lengths, {c.batch});
  kernels::project_heads(projected, k_cache, v_cache, rows(on, c), weight, table, of);
  kernels::project_values(follower, rows(on, c), weight.narrow(0, c.head_dim, c.key_heads * c.head_dim), of);
  return {projected.narrow(1, 0, c.heads * c.head_dim).contiguous(), k_cache, v_cache, follower};
}

std::vector<Tensor> mlp(const ParitySetting& on, const Case& c) {
  Tensor y = on.output({c.batch, c.inner}), x = on.input({c.batch, c.width}, 9);
  kernels::project_gated(y, rows(on, c), on.input({2 * c.inner, c.width}, 10, 1 / std::sqrt(double(c.width))));
  kernels::project_onto(x, on.input({c.batch, c.inner}, 11), on.input({c.width, c.inner}, 12, 1 / std::sqrt(double(c.inner))));
  return {y, x};
}

// f32: sums of up to 1032 products, and what is computed from them. bf16: up to three values are rounded on the way to a
// result, each by up to 2^-9 of its size, and the product of gate and up has the errors of both.
TEST(CudaDecodeProjectionTest, AgreesWithF64OnTheCpu) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(concat(c.batch, " rows of ", c.width, ", heads of ", c.head_dim, ", inner width ", c.inner));
    for (const auto& body : {ParityCase([&c](const ParitySetting& on) { return heads(on, c); }),
                             ParityCase([&c](const ParitySetting& on) { return mlp(on, c); })}) {
      expect_parity(body, DType::f32, 2e-6);
      expect_parity(body, DType::bf16, 2.0 / 256);
    }
  }
}

// Lengths are read on the device. A wrong length must not cause a write out of bounds.
TEST(CudaDecodeProjectionTest, LengthsOutsideTheCacheAreTakenForTheNearestInside) {
  const auto written = [](const std::vector<int32_t>& lengths) {
    return run_on_cuda(
        [&](const ParitySetting& on) {
          Tensor cache = on.input({3, 5, 1, 16}, 1);
          kernels::project_values(cache, {on.input({3, 8}, 2), on.input({8}, 3), 0.1}, on.input({16, 8}, 4),
                                  on.indices(lengths, {3}));
          return std::vector<Tensor>{cache};
        },
        DType::bf16)[0];
  };
  EXPECT_EQ(largest_difference(written({5, 1, 5}), written({17, -9, 6})), 0);
}

}  // namespace
}  // namespace echo
