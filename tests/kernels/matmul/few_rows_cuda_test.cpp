#include <cstring>

#include "kernels/matmul/few_rows.h"
#include "kernels/matmul/matmul.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::MatmulOperands;

struct Case {
  int64_t m, n, k;
  int64_t gap = 0;  // elements between rows
  bool wide_result = false;
};

MatmulOperands operands_of(const Tensor& y, const Tensor& x, const Tensor& weight) {
  return {y.raw_data(), x.raw_data(),     weight.raw_data(), x.dtype(), y.dtype(), x.dim(0), weight.dim(0), x.dim(1),
          x.stride(0),  weight.stride(0), y.stride(0),       false,     true,      false,    y.device()};
}

std::vector<Tensor> product(const ParitySetting& on, const Case& c) {
  const auto stored = [&](int64_t rows, int64_t columns, uint64_t seed) {
    return on.input({rows, columns + c.gap}, seed).narrow(1, 0, columns);
  };
  const Tensor x = stored(c.m, c.k, 1), weight = stored(c.n, c.k, 2),
               memory = c.wide_result ? on.wide_input({c.m, c.n + c.gap}, 3) : on.input({c.m, c.n + c.gap}, 3);
  Tensor y = memory.narrow(1, 0, c.n);
  if (on.device.is_cpu()) {
    kernels::matmul(y, x, kernels::Transpose::no, weight, kernels::Transpose::yes);
  } else if constexpr (kWithCuda) {
    kernels::cuda::small_matmul(operands_of(y, x, weight));
  }
  return {memory};  // includes the memory beside the matrix, which must not change
}

// f32 sums of up to 1200 products, whose errors average out: 1e-6 of the largest sum. A bf16 result is rounded once, by up to
// 2^-8 of its size.
TEST(CudaSmallMatmulTest, AgreesWithF64OnTheCpu) {
  for (const Case& c :
       {Case{1, 1, 8}, Case{1, 67, 1200}, Case{1, 9, 520, 8}, Case{2, 8, 32}, Case{4, 11, 72, 0, true}, Case{5, 17, 264},
        Case{8, 16, 1032, 16}, Case{9, 3, 40}, Case{13, 33, 136, 8, true}, Case{16, 20, 600}}) {
    SCOPED_TRACE(concat(c.m, " x ", c.n, " x ", c.k));
    const ParityCase body = [&c](const ParitySetting& on) { return product(on, c); };
    expect_parity(body, DType::f32, 1e-6);
    expect_parity(body, DType::bf16, c.wide_result ? 1e-6 : 1.0 / 256);
  }
}

TEST(CudaSmallMatmulTest, SaysWhatItTakes) {
  if constexpr (kWithCuda) {
    const Tensor y = Tensor::empty({16, 5}, DType::bf16, kCuda), x = Tensor::empty({16, 24}, DType::bf16, kCuda);
    const Tensor weight = Tensor::empty({5, 24}, DType::bf16, kCuda);
    const MatmulOperands fitting = operands_of(y, x, weight);
    using kernels::cuda::small_matmul_fits;
    EXPECT_TRUE(small_matmul_fits(fitting));
    const auto refused = [&](auto&& change) {
      MatmulOperands other = fitting;
      change(other);
      return !small_matmul_fits(other);
    };
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.m = 17; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.m = 0; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.k = 20; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.lda = 25; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.b = static_cast<const bfloat16*>(p.b) + 1; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.transpose_b = false; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.accumulate = true; }));
    EXPECT_TRUE(refused([](MatmulOperands& p) { p.dtype = p.c_dtype = DType::f64; }));
    MatmulOperands other = fitting;
    other.m = 17;
    EXPECT_THROW(kernels::cuda::small_matmul(other), Error);
  }
}

}  // namespace
}  // namespace echo
