#include "kernels/argmax.h"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

std::vector<int32_t> argmax_on(Device device, const std::vector<float>& values, int64_t rows) {
  Tensor index = Tensor::empty({rows}, DType::i32, device);
  kernels::argmax(index, Tensor::from(values, {rows, int64_t(values.size()) / rows}).to(device));
  return index.to_vector<int32_t>();
}

void expect_first_largest(Device device) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(argmax_on(device, {1, 3, 2, 3, /**/ -5, -4, -4, -9}, 2), (std::vector<int32_t>{1, 1}));
  EXPECT_EQ(argmax_on(device, {1, NAN, 2, /**/ 7, infinity, 2, /**/ -infinity, -infinity, -infinity, /**/ -infinity, 5, 1}, 4),
            (std::vector<int32_t>{-1, -1, -1, 1}));
  std::vector<float> many(5000, 0.5f);
  many[4321] = many[4999] = 2;
  EXPECT_EQ(argmax_on(device, many, 1), std::vector<int32_t>{4321});
  EXPECT_EQ(argmax_on(device, std::vector<float>(3000, -1.0f), 1), std::vector<int32_t>{0});
}

TEST(ArgmaxTest, IsTheFirstOfTheLargestAndMinusOneWithoutAFiniteOne) { expect_first_largest(Device{}); }
TEST(CudaArgmaxTest, IsTheFirstOfTheLargestAndMinusOneWithoutAFiniteOne) { expect_first_largest(kCuda); }

}  // namespace
}  // namespace echo
