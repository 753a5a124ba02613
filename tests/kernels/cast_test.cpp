#include "kernels/cast.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"

namespace echo {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

TEST(CastTest, RoundsToTheNearestAndKeepsWhatIsNotFinite) {
  const Tensor f64 = Tensor::from(std::vector<double>{1, 1 + 0x1p-9, 1 + 3 * 0x1p-8, -0.1, 1e40, -INFINITY, std::nan("")});
  const std::vector<double> f32 = values_of(kernels::cast(f64, DType::f32)), bf16 = values_of(kernels::cast(f64, DType::bf16));
  EXPECT_EQ(f32[3], double(-0.1f));
  EXPECT_EQ(f32[4], INFINITY);
  EXPECT_EQ(bf16[0], 1);
  EXPECT_EQ(bf16[1], 1);           // a quarter of a unit: down
  EXPECT_EQ(bf16[2], 1 + 0x1p-6);  // half-way: to even
  EXPECT_EQ(bf16[4], INFINITY);
  EXPECT_EQ(bf16[5], -INFINITY);
  EXPECT_TRUE(std::isnan(bf16[6]));
}

TEST(CastTest, EveryPairOfDtypesAgreesWithConversionElementByElement) {
  for (const DType from : kFloats) {
    const Tensor source = random_tensor({3, 30'001}, from, 1);
    for (const DType to : kFloats) {
      const Tensor result = kernels::cast(source, to);
      EXPECT_EQ(result.dtype(), to);
      const std::vector<double> x = values_of(source), y = values_of(result);
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_EQ(y[i], to == DType::bf16 ? double(bfloat16(float(x[i]))) : to == DType::f32 ? double(float(x[i])) : x[i]);
    }
  }
}

}  // namespace
}  // namespace echo
