#include "kernels/optimizer/square_sums.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

TEST(CudaSquareSumsTest, GroupsAgreeWithTheCpuWhateverTheOrderOfThreads) {
  for (const int64_t elements : {int64_t{1}, kernels::kSquareSumLength, 3 * kernels::kSquareSumLength + 7}) {
    const ParityCase body = [&](const ParitySetting& on) -> std::vector<Tensor> {
      return {kernels::square_sums(on.input({elements}, 1))};
    };
    expect_parity(body, DType::f32, 1e-13);  // exact squares in f64, 1024 of them in another order
  }
  EXPECT_EQ(kernels::square_sums(Tensor::empty({0}, DType::f32, kCuda)).elements(), 0);
}

}  // namespace
}  // namespace echo
