#include "kernels/rope.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::RopeDirection;

struct Case {
  int64_t batch, tokens, heads, head_width, first_position;
};

kernels::RopeTable random_table(const ParitySetting& on, int64_t positions, int64_t pairs) {
  return {on.wide_input({positions, pairs}, 7), on.wide_input({positions, pairs}, 8)};
}

// From a slice of a wider projection, and in place on a slice, in both directions.
std::vector<Tensor> turn(const ParitySetting& on, const Case& c) {
  const kernels::RopeTable table = random_table(on, c.first_position + c.tokens, c.head_width / 2);
  const Tensor projection = on.input({c.batch, c.tokens, c.heads + 3, c.head_width}, 1);
  Tensor y = on.output({c.batch, c.tokens, c.heads, c.head_width});
  kernels::rope(y, projection.narrow(2, 1, c.heads), table, c.first_position, RopeDirection::forward);
  Tensor in_place = projection.clone(), slice = in_place.narrow(2, 2, c.heads);
  kernels::rope(slice, slice, table, c.first_position, RopeDirection::backward);
  return {y, in_place};
}

// f32: three roundings. bf16: the result's 8 bits.
TEST(CudaRopeTest, AgreesWithF64OnTheCpu) {
  for (const Case& c : {Case{2, 5, 7, 16, 3}, Case{1, 3, 4, 64, 0}, Case{2, 1, 5, 2, 1}, Case{1, 4, 1, 12, 0},
                        Case{1, 2, 6, 6, 9}, Case{1, 2, 36, 64, 0}}) {
    SCOPED_TRACE(concat("heads ", c.heads, " of ", c.head_width));
    const ParityCase body = [&c](const ParitySetting& on) { return turn(on, c); };
    expect_parity(body, DType::f32, 5e-7);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

// Rows at every second element are not aligned to the 16 bytes of a vector.
TEST(CudaRopeTest, UnalignedSlicesAreFine) {
  const ParityCase body = [](const ParitySetting& on) -> std::vector<Tensor> {
    const kernels::RopeTable table = random_table(on, 3, 8);
    const Tensor wide = on.input({1, 3, 2, 19}, 1);
    Tensor y = on.output({1, 3, 2, 16});
    kernels::rope(y, wide.narrow(3, 1, 16), table, 0, RopeDirection::forward);
    return {y};
  };
  expect_parity(body, DType::f32, 5e-7);
  expect_parity(body, DType::bf16, 1.0 / 256);
}

TEST(CudaRopeTest, NoTokensAndTablesElsewhereAreSeen) {
  const ParitySetting on{kCuda, DType::f32, DType::f32};
  Tensor none = on.output({2, 0, 3, 8});
  kernels::rope(none, none, random_table(on, 4, 4), 0, RopeDirection::forward);
  Tensor x = on.input({1, 2, 3, 8}, 1);
  EXPECT_THROW(
      kernels::rope(x, x, {Tensor::zeros({4, 4}, DType::f32), Tensor::zeros({4, 4}, DType::f32)}, 0, RopeDirection::forward),
      Error);
}

}  // namespace
}  // namespace echo
