#include "autograd/ops.h"
#include "kernels/reduce.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

// Both sides add exact terms in f64, in different orders. Relative to the sum of magnitudes, which may be far above the sum.
TEST(CudaReduceTest, SumsAgreeWithTheCpu) {
  for (const int64_t count : {1, 13, 4096, 70'003}) {
    SCOPED_TRACE(count);
    const ParityCase body = [count](const ParitySetting& on) -> std::vector<Tensor> {
      return {Tensor::from(std::vector<double>{kernels::sum(on.input({count}, 1))})};
    };
    expect_parity(body, DType::f32, 1e-12);
    expect_parity(body, DType::bf16, 1e-12);
  }
}

TEST(CudaReduceTest, UnalignedAndEmptyTensorsAreFine) {
  const Tensor x = random_tensor({900}, DType::f32, 1);
  EXPECT_NEAR(kernels::sum(x.to(kCuda).narrow(0, 3, 800)), kernels::sum(x.narrow(0, 3, 800)), 1e-10);
  EXPECT_EQ(kernels::sum(Tensor::empty({0}, DType::bf16, kCuda)), 0);
  EXPECT_THROW(kernels::sum(Tensor::zeros({3}, DType::f64).to(kCuda)), Error);
}

// f32 sums of up to 1030 terms of size up to 4; a bf16 sum rounds once.
TEST(CudaReduceTest, SumsOverRowsAgreeWithTheCpuInBothModes) {
  for (const auto& [rows, columns] : {std::array<int64_t, 2>{0, 3}, {1, 1}, {5, 300}, {70, 37}, {1030, 8}, {100, 264}})
    for (const GradientMode mode : {GradientMode::overwrite, GradientMode::accumulate})
      for (const bool wide : {false, true}) {
        SCOPED_TRACE(concat(rows, " x ", columns, wide ? " wide" : ""));
        const ParityCase body = [=, rows = rows, columns = columns](const ParitySetting& on) -> std::vector<Tensor> {
          Tensor y = wide ? on.wide_input({columns}, 1) : on.input({columns}, 1);
          kernels::sum_rows(y, on.input({rows, columns}, 2), mode);
          return {y};
        };
        expect_parity(body, DType::f32, 2e-6);
        expect_parity(body, DType::bf16, wide ? 2e-6 : 1.0 / 256);
      }
}

TEST(CudaReduceTest, SumAndProductOfVariablesStayOnTheirDevice) {
  const Tensor a = random_tensor({3, 4}, DType::f32, 1), b = random_tensor({4, 5}, DType::f32, 2);
  const auto gradients = [&](Device device) {
    Variable x(a.to(device), true), y(b.to(device), true);
    Variable loss = mean(matmul(x, y));
    EXPECT_EQ(loss.data().device(), device);
    loss.backward();
    return std::array{x.gradient().to(Device{}), y.gradient().to(Device{}), loss.data().to(Device{})};
  };
  const auto expected = gradients(Device{}), actual = gradients(kCuda);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LT(largest_difference(expected[i], actual[i]), 1e-6) << i;  // some ten f32 terms
}

}  // namespace
}  // namespace echo
