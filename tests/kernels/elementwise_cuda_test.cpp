#include "kernels/elementwise.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using Function = std::function<void(Tensor& y, const Tensor& a, const Tensor& b)>;

// One or two roundings in f32, and another one for bf16, of numbers up to the largest of the output.
void expect_agreement(const char* name, const Function& function) {
  for (const int64_t count : {0, 1, 5, 1024, 4099}) {
    SCOPED_TRACE(concat(name, " of ", count));
    const ParityCase body = [&](const ParitySetting& on) -> std::vector<Tensor> {
      Tensor y = on.input({count}, 3);
      function(y, on.input({count}, 1), on.input({count}, 2));
      return {y};
    };
    expect_parity(body, DType::f32, 5e-7);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

TEST(CudaElementwiseTest, FunctionsAgreeWithTheCpu) {
  using namespace kernels;
  expect_agreement("add", [](Tensor& y, const Tensor& a, const Tensor& b) { add(y, a, b); });
  expect_agreement("subtract", [](Tensor& y, const Tensor& a, const Tensor& b) { subtract(y, a, b); });
  expect_agreement("multiply", [](Tensor& y, const Tensor& a, const Tensor& b) { multiply(y, a, b); });
  expect_agreement("scale", [](Tensor& y, const Tensor& a, const Tensor&) { scale(y, a, -1.7); });
  expect_agreement("square", [](Tensor& y, const Tensor& a, const Tensor&) { square(y, a); });
  expect_agreement("tanh", [](Tensor& y, const Tensor& a, const Tensor&) { tanh_forward(y, a); });
  expect_agreement("tanh_backward", [](Tensor& y, const Tensor& a, const Tensor& b) { tanh_backward(y, a, b); });
  expect_agreement("in place", [](Tensor& y, const Tensor& a, const Tensor&) { multiply(y, y, a); });
}

TEST(CudaElementwiseTest, AddScaledTakesEveryPairOfDtypes) {
  for (const int64_t count : {3, 2061})
    for (const bool wide_sum : {false, true})
      for (const bool wide_addend : {false, true}) {
        SCOPED_TRACE(concat(count, ' ', wide_sum, ' ', wide_addend));
        const ParityCase body = [&](const ParitySetting& on) -> std::vector<Tensor> {
          Tensor y = wide_sum ? on.wide_input({count}, 1) : on.input({count}, 1);
          kernels::add_scaled(y, wide_addend ? on.wide_input({count}, 2) : on.input({count}, 2), 0.3);
          return {y};
        };
        expect_parity(body, DType::f32, 5e-7);
        expect_parity(body, DType::bf16, wide_sum ? 5e-7 : 1.0 / 256);
      }
}

TEST(CudaElementwiseTest, UnalignedTensorsAreComputedAndTheirNeighboursKept) {
  const ParityCase body = [](const ParitySetting& on) -> std::vector<Tensor> {
    const Tensor memory = on.input({200}, 1);
    Tensor y = memory.narrow(0, 3, 150);
    kernels::add(y, on.input({160}, 2).narrow(0, 1, 150), on.input({150}, 3));
    return {memory};
  };
  expect_parity(body, DType::f32, 5e-7);
  expect_parity(body, DType::bf16, 1.0 / 256);
}

TEST(CudaElementwiseTest, BiasIsAddedToEveryRow) {
  for (const auto& [rows, columns] : {std::array<int64_t, 2>{1, 1}, {0, 4}, {9, 7}, {33, 64}, {5, 264}}) {
    SCOPED_TRACE(concat(rows, " x ", columns));
    const ParityCase body = [rows = rows, columns = columns](const ParitySetting& on) -> std::vector<Tensor> {
      Tensor y = on.output({rows, columns});
      kernels::add_bias(y, on.input({rows, columns}, 1), on.input({columns}, 2));
      return {y};
    };
    expect_parity(body, DType::f32, 5e-7);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

TEST(CudaElementwiseTest, TensorsOnTwoDevicesAndF64AreRefused) {
  const Tensor here = Tensor::zeros({4}, DType::f32);
  Tensor there = here.to(kCuda), wide = Tensor::zeros({4}, DType::f64).to(kCuda);
  EXPECT_THROW(kernels::add(there, here, there), Error);
  EXPECT_THROW(kernels::add_bias(there, there, here), Error);
  EXPECT_THROW(kernels::scale(wide, wide, 2), Error);
}

}  // namespace
}  // namespace echo
