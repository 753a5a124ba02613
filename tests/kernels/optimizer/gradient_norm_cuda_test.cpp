#include "kernels/optimizer/gradient_norm.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

std::vector<Tensor> on_device(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.defined() ? tensor.to(kCuda) : tensor);
  return result;
}

// Both sides sum exact squares in f64, in different orders: 1e5 roundings of 2^-53 at most.
void expect_norm(const std::vector<Tensor>& gradients) {
  const double expected = kernels::gradient_norm(gradients);
  EXPECT_NEAR(kernels::gradient_norm(on_device(gradients)), expected, 1e-11 * expected);
}

TEST(CudaGradientNormTest, MixedTensorsOfSeveralPiecesAgreeWithTheCpu) {
  expect_norm({random_tensor({3, 23'000}, DType::f32, 1), Tensor(), random_tensor({1}, DType::f32, 2),
               random_tensor({33'001}, DType::bf16, 3), Tensor::zeros({0}, DType::f32), random_tensor({77}, DType::bf16, 4)});
}

TEST(CudaGradientNormTest, MoreTensorsThanALaunchTakes) {
  std::vector<Tensor> gradients;
  for (int i = 0; i < 165; ++i)
    gradients.push_back(random_tensor({1 + i % 5}, i % 3 == 0 ? DType::bf16 : DType::f32, uint64_t(i)));
  expect_norm(gradients);
}

TEST(CudaGradientNormTest, UnalignedTensorsAreReadToTheirEnds) {
  const Tensor memory = random_tensor({2000}, DType::f32, 1);
  const double expected = kernels::gradient_norm(std::vector<Tensor>{memory.narrow(0, 3, 1001)});
  EXPECT_NEAR(kernels::gradient_norm(std::vector<Tensor>{memory.to(kCuda).narrow(0, 3, 1001)}), expected, 1e-11 * expected);
}

TEST(CudaGradientNormTest, OrderOfThreadsChangesNoBit) {
  const ParityCase body = [](const ParitySetting& on) -> std::vector<Tensor> {
    const std::vector<Tensor> gradients = {on.input({40'000}, 1), on.input({5}, 2)};
    return {Tensor::from(std::vector<double>{kernels::gradient_norm(gradients)})};
  };
  expect_parity(body, DType::f32, 1e-11);
}

TEST(CudaGradientNormTest, LargeSquaresNothingAtAllAndNotFiniteOnes) {
  EXPECT_NEAR(kernels::gradient_norm(on_device({Tensor::full({4}, 1e30, DType::f32)})), 2e30, 2e23);  // 1e30 is rounded to f32
  EXPECT_EQ(kernels::gradient_norm(std::vector<Tensor>{Tensor(), Tensor::empty({0}, DType::f32, kCuda)}), 0);
  EXPECT_TRUE(std::isnan(kernels::gradient_norm(on_device({Tensor::full({9}, std::nan(""), DType::bf16)}))));
  EXPECT_THROW(kernels::gradient_norm(on_device({Tensor::zeros({4}, DType::f64)})), Error);
  EXPECT_THROW(
      kernels::gradient_norm(std::vector<Tensor>{Tensor::zeros({4}, DType::f32, kCuda), Tensor::zeros({4}, DType::f32)}),
      Error);
}

}  // namespace
}  // namespace echo
