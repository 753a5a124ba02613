#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/test_support.h"

namespace echo {
namespace {

float from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Bfloat16Test, EveryValueSurvivesThePassThroughF32) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 value;
    value.bits = uint16_t(bits);
    const float wide = value;
    EXPECT_EQ(std::bit_cast<uint32_t>(wide), bits << 16);
    const bfloat16 back(wide);
    if (std::isnan(wide)) {
      EXPECT_EQ(back.bits, bits | 0x40u);  // a signalling NaN becomes a quiet one
    } else {
      ASSERT_EQ(back.bits, bits);
    }
  }
}

TEST(Bfloat16Test, RoundsToTheNearestAndTiesToEven) {
  // Between every two neighbours: just below, at and just above the middle.
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    for (const uint32_t sign : {0u, 0x8000u}) {
      const uint32_t low = sign | bits, high = low + 1;
      ASSERT_EQ(bfloat16(from_bits(low << 16 | 0x0001)).bits, low);
      ASSERT_EQ(bfloat16(from_bits(low << 16 | 0x7fff)).bits, low);
      ASSERT_EQ(bfloat16(from_bits(low << 16 | 0x8000)).bits, low % 2 == 0 ? low : high);
      ASSERT_EQ(bfloat16(from_bits(low << 16 | 0x8001)).bits, high);
      ASSERT_EQ(bfloat16(from_bits(low << 16 | 0xffff)).bits, high);
    }
  }
}

TEST(Bfloat16Test, TheLargestF32RoundsToInfinityAndNanStaysNan) {
  EXPECT_EQ(float(bfloat16(std::numeric_limits<float>::max())), INFINITY);
  EXPECT_EQ(float(bfloat16(-std::numeric_limits<float>::max())), -INFINITY);
  EXPECT_EQ(float(bfloat16(INFINITY)), INFINITY);
  // Among them those whose payload is in the lower half alone, which cutting off would turn into infinity.
  for (const uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu, 0x7fc00000u})
    EXPECT_TRUE(std::isnan(float(bfloat16(from_bits(bits))))) << bits;
  EXPECT_TRUE(std::signbit(float(bfloat16(-0.0f))));
}

TEST(DTypeTest, NamesSizesAndTypesFit) {
  EXPECT_EQ(concat(DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u16), "f32bf16f64i32i64u16");
  EXPECT_EQ(size_of(dtype_of<float>), int64_t(sizeof(float)));
  EXPECT_EQ(size_of(dtype_of<bfloat16>), int64_t(sizeof(bfloat16)));
  EXPECT_EQ(size_of(dtype_of<double>), int64_t(sizeof(double)));
  EXPECT_EQ(size_of(dtype_of<int32_t>), int64_t(sizeof(int32_t)));
  EXPECT_EQ(size_of(dtype_of<int64_t>), int64_t(sizeof(int64_t)));
  EXPECT_EQ(size_of(dtype_of<uint16_t>), int64_t(sizeof(uint16_t)));
  EXPECT_EQ(accumulator_dtype(DType::bf16), DType::f32);
  EXPECT_EQ(accumulator_dtype(DType::f32), DType::f32);
  EXPECT_EQ(accumulator_dtype(DType::f64), DType::f64);
  EXPECT_TRUE(is_float(DType::bf16));
  EXPECT_FALSE(is_float(DType::u16));
}

TEST(DTypeTest, DispatchCallsTheBodyWithTheType) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    DType seen = DType::i32;
    dispatch_float(dtype, [&]<class T>() { seen = dtype_of<T>; });
    EXPECT_EQ(seen, dtype);
  }
  EXPECT_NE(error_message(ExitCode::internal, [] { dispatch_float(DType::i64, []<class T>() {}); })
                .find("expected a floating dtype, got i64"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
