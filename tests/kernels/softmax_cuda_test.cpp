#include <limits>

#include "kernels/softmax.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

// Odd and unaligned widths use the general kernel, the others the registers of a warp or a block. 9000 fits into neither.
// f32: exponentials of 2 ulp and arguments up to 20, rounded. bf16: outputs round once, dx has a rounded y as its input on both
// sides.
TEST(CudaSoftmaxTest, BothPassesAgreeWithTheCpu) {
  for (const auto& [rows, width, scale] : {std::tuple<int64_t, int64_t, double>{1, 1, 1.0},
                                           {3, 37, 0.7},
                                           {19, 64, -1.3},
                                           {2, 1000, 2.0},
                                           {3, 1032, 0.5},
                                           {2, 2056, 1.0},
                                           {1, 4104, 1.0},
                                           {1, 9000, 1.0},
                                           {0, 8, 1.0}}) {
    SCOPED_TRACE(concat(rows, " x ", width));
    const ParityCase body = [rows = rows, width = width, scale = scale](const ParitySetting& on) -> std::vector<Tensor> {
      Tensor y = on.output({rows, width}), dx = on.output({rows, width});
      kernels::softmax_forward(y, on.input({rows, width}, 1, 3), scale);
      kernels::softmax_backward(dx, on.input({rows, width}, 2), on.input({rows, width}, 3), scale);
      return {y, dx};
    };
    expect_parity(body, DType::f32, 4e-6);
    expect_parity(body, DType::bf16, 1.0 / 200);
  }
}

TEST(CudaSoftmaxTest, OutputsMayBeInputsAndNeedNotBeAligned) {
  const ParityCase body = [](const ParitySetting& on) -> std::vector<Tensor> {
    const Tensor memory = on.input({40 * 3 + 8}, 1), gradients = on.input({3, 64}, 2);
    Tensor unaligned = memory.narrow(0, 1, 120).reshape({3, 40}), dx = gradients;
    kernels::softmax_forward(unaligned, unaligned, 1);
    kernels::softmax_backward(dx, dx, on.input({3, 64}, 3), 0.3);
    return {memory, dx};
  };
  expect_parity(body, DType::f32, 4e-6);
  expect_parity(body, DType::bf16, 1.0 / 200);
}

TEST(CudaSoftmaxTest, LargeAndInfinitelySmallLogitsAreFineWithAScaleOfEitherSign) {
  const float low = -std::numeric_limits<float>::infinity();
  for (const int64_t width : {3, 8})  // both paths
    for (const float sign : {1.0f, -1.0f}) {
      SCOPED_TRACE(concat(width, " values, scale ", sign));
      std::vector<float> row(size_t(width), sign * low);
      row[0] = row[1] = sign * 3e38f;
      Tensor y = Tensor::empty({1, width}, DType::f32, kCuda);
      kernels::softmax_forward(y, Tensor::from(row, {1, width}).to(kCuda), sign);
      std::vector<float> expected(size_t(width), 0.0f);
      expected[0] = expected[1] = 0.5f;
      EXPECT_EQ(y.to_vector<float>(), expected);
    }
}

}  // namespace
}  // namespace echo
