#include "kernels/cast.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

// Rounding is exact, so all bits equal those of the CPU.
TEST(CudaCastTest, EveryPairOfDtypesHasTheBitsOfTheCpu) {
  for (const int64_t count : {1, 7, 64, 3001})
    for (const DType from : {DType::f32, DType::bf16})
      for (const DType to : {DType::f32, DType::bf16}) {
        const Tensor source = random_tensor({count}, from, 1);
        EXPECT_EQ(values_of(kernels::cast(source.to(kCuda), to).to(Device{})), values_of(kernels::cast(source, to)))
            << count << ' ' << from << " to " << to;
      }
}

TEST(CudaCastTest, UnalignedTensorsAreConvertedAndTheirNeighboursKept) {
  const Tensor source = random_tensor({100}, DType::f32, 1), there = source.to(kCuda);
  const Tensor memory = Tensor::full({100}, 7, DType::bf16).to(kCuda);
  Tensor part = memory.narrow(0, 3, 50);
  kernels::cast(part, there.narrow(0, 5, 50));
  std::vector<double> expected(100, 7);
  const std::vector<double> rounded = values_of(kernels::cast(source, DType::bf16));
  std::copy(rounded.begin() + 5, rounded.begin() + 55, expected.begin() + 3);
  EXPECT_EQ(values_of(memory.to(Device{})), expected);
}

TEST(CudaCastTest, SameDtypeCopiesEmptyTensorsAreFineAndF64IsRefused) {
  const Tensor source = random_tensor({5}, DType::bf16, 1), there = source.to(kCuda);
  Tensor copy = Tensor::empty({5}, DType::bf16, kCuda);
  kernels::cast(copy, there);
  EXPECT_EQ(values_of(copy.to(Device{})), values_of(source));
  EXPECT_EQ(kernels::cast(Tensor::empty({0, 3}, DType::f32, kCuda), DType::bf16).elements(), 0);
  EXPECT_THROW(kernels::cast(there, DType::f64), Error);
}

}  // namespace
}  // namespace echo
