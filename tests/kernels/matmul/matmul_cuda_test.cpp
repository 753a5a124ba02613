#include "kernels/matmul/matmul.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::Transpose;

struct Case {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, wide_result;
  int64_t extra;  // the stride of rows minus their length
};

Tensor stored(const ParitySetting& on, int64_t rows, int64_t columns, int64_t extra, uint64_t seed) {
  return on.input({rows, columns + extra}, seed).narrow(1, 0, columns);
}

std::vector<Tensor> product(const ParitySetting& on, const Case& c) {
  const Tensor a = c.transpose_a ? stored(on, c.k, c.m, c.extra, 1) : stored(on, c.m, c.k, c.extra, 1);
  const Tensor b = c.transpose_b ? stored(on, c.n, c.k, c.extra, 2) : stored(on, c.k, c.n, c.extra, 2);
  const Shape memory_shape{c.m, c.n + c.extra};
  const Tensor memory = c.wide_result ? on.wide_input(memory_shape, 3) : on.input(memory_shape, 3);
  Tensor result = memory.narrow(1, 0, c.n);
  kernels::matmul(result, a, c.transpose_a ? Transpose::yes : Transpose::no, b, c.transpose_b ? Transpose::yes : Transpose::no,
                  c.accumulate ? GradientMode::accumulate : GradientMode::overwrite);
  return {memory};  // includes the memory beside the matrix, which must not change
}

// Sums of up to 96 products in f32 (96 * 2^-24 of the largest at most, 1e-5 with margin for sums smaller than their terms); a
// bf16 result rounds once, 2^-8 of its size.
TEST(CudaMatmulTest, EveryTransposeModeAndStrideAgreesWithTheCpu) {
  for (int flags = 0; flags < 16; ++flags)
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {3, 5, 7}, {17, 40, 96}, {33, 1, 8}}) {
      const Case c{m, n, k, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0, flags % 3};
      SCOPED_TRACE(concat("m ", m, " n ", n, " k ", k, " flags ", flags));
      const ParityCase body = [&c](const ParitySetting& on) { return product(on, c); };
      expect_parity(body, DType::f32, 1e-5);
      expect_parity(body, DType::bf16, c.wide_result ? 1e-5 : 1.0 / 256);
    }
}

TEST(CudaMatmulTest, EmptyExtentsAreFine) {
  Tensor c = Tensor::full({2, 3}, 7, DType::f32, kCuda);
  kernels::matmul(c, Tensor::empty({2, 0}, DType::f32, kCuda), Transpose::no, Tensor::empty({0, 3}, DType::f32, kCuda),
                  Transpose::no);
  EXPECT_EQ(c.to_vector<float>(), std::vector<float>(6, 0.0f));
  Tensor none = Tensor::empty({0, 3}, DType::f32, kCuda);
  kernels::matmul(none, Tensor::empty({0, 2}, DType::f32, kCuda), Transpose::no, Tensor::empty({2, 3}, DType::f32, kCuda),
                  Transpose::no);
}

TEST(CudaMatmulTest, OperandsOnTwoDevicesAndF64AreRefused) {
  Tensor c = Tensor::empty({2, 2}, DType::f32, kCuda);
  const Tensor here = Tensor::zeros({2, 2}, DType::f32), there = here.to(kCuda);
  EXPECT_THROW(kernels::matmul(c, here, Transpose::no, there, Transpose::no), Error);
  Tensor wide = Tensor::empty({2, 2}, DType::f64, kCuda);
  EXPECT_THROW(kernels::matmul(wide, wide, Transpose::no, wide, Transpose::no), Error);
}

}  // namespace
}  // namespace echo
