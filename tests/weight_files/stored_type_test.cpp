#include "weight_files/stored_type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/weight_files/file_support.h"

namespace echo {
namespace {

// The value of the fields of a binary float, by the definition in IEEE 754.
double value_of_fields(uint32_t bits, int exponent_bits, int fraction_bits) {
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const int exponent = int(bits >> fraction_bits & ((1u << exponent_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> (exponent_bits + fraction_bits) & 1u ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(double(fraction), 1 - bias - fraction_bits);
  return sign * std::ldexp(double(fraction) + double(1u << fraction_bits), exponent - bias - fraction_bits);
}

template <class Convert>
void expect_exact(int exponent_bits, int fraction_bits, Convert convert) {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = value_of_fields(bits, exponent_bits, fraction_bits);
    const float value = convert(uint16_t(bits));
    const bool sign_kept = std::signbit(value) == (bits >> 15 == 1);
    const bool equal = std::isnan(expected) ? std::isnan(value) : double(value) == expected;
    if (!(equal && sign_kept) && ++wrong < 5) ADD_FAILURE() << "bits " << bits << ": " << value << ", expected " << expected;
  }
  EXPECT_EQ(wrong, 0);
}

TEST(StoredTypeTest, AllHalvesConvertExactly) { expect_exact(5, 10, float_from_half); }

TEST(StoredTypeTest, AllBfloat16ConvertExactly) {
  expect_exact(8, 7, [](uint16_t bits) {
    bfloat16 value;
    value.bits = bits;
    return float(value);
  });
}

TEST(StoredTypeTest, AllBfloat16SurviveARoundTripThroughF32) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 value;
    value.bits = uint16_t(bits);
    const bfloat16 back(float{value});
    if (std::isnan(float(value)))
      ASSERT_TRUE(std::isnan(float(back))) << bits;
    else
      ASSERT_EQ(back.bits, value.bits);
  }
}

TEST(StoredTypeTest, ElementsNeedNotBeAligned) {
  std::string bytes = "x" + bytes_of_values<double>({1.5, -2.25, 1e300});
  Tensor to = Tensor::zeros({4}, DType::f32);
  ASSERT_TRUE(convert_elements(StoredType::f64, std::as_bytes(std::span(bytes)).subspan(1), to, 1));
  EXPECT_EQ(to.to_vector<float>(), (std::vector<float>{0.0f, 1.5f, -2.25f, std::numeric_limits<float>::infinity()}));
}

TEST(StoredTypeTest, IntegersMustFit) {
  const std::string fits = bytes_of_values<int64_t>({2147483647, -2147483648}), large = bytes_of_values<int64_t>({2147483648});
  Tensor to = Tensor::zeros({2}, DType::i32);
  EXPECT_TRUE(convert_elements(StoredType::i64, std::as_bytes(std::span(fits)), to, 0));
  EXPECT_EQ(to.to_vector<int32_t>(), (std::vector<int32_t>{2147483647, -2147483648}));
  EXPECT_FALSE(convert_elements(StoredType::i64, std::as_bytes(std::span(large)), to, 0));
}

TEST(StoredTypeTest, FloatsAndIntegersDoNotMix) {
  const std::string bytes = bytes_of_values<float>({1.0f});
  Tensor integers = Tensor::zeros({1}, DType::i32), floats = Tensor::zeros({1}, DType::f32);
  EXPECT_FALSE(convert_elements(StoredType::f32, std::as_bytes(std::span(bytes)), integers, 0));
  EXPECT_FALSE(convert_elements(StoredType::i32, std::as_bytes(std::span(bytes)), floats, 0));
}

TEST(StoredTypeTest, BooleansAndBytesBecomeI32) {
  const std::string bytes = bytes_of_values<uint8_t>({0, 1, 255});
  Tensor to = Tensor::zeros({3}, DType::i32);
  EXPECT_TRUE(convert_elements(StoredType::boolean, std::as_bytes(std::span(bytes)), to, 0));
  EXPECT_EQ(to.to_vector<int32_t>(), (std::vector<int32_t>{0, 1, 1}));
  EXPECT_TRUE(convert_elements(StoredType::i8, std::as_bytes(std::span(bytes)), to, 0));
  EXPECT_EQ(to.to_vector<int32_t>(), (std::vector<int32_t>{0, 1, -1}));
}

TEST(StoredTypeTest, NamesAndTypesBelongTogether) {
  for (const StoredType type :
       {StoredType::f64, StoredType::f32, StoredType::f16, StoredType::bf16, StoredType::i64, StoredType::i32, StoredType::i16,
        StoredType::i8, StoredType::u16, StoredType::u8, StoredType::boolean})
    EXPECT_EQ(stored_type_named(name_of(type)), type);
  EXPECT_EQ(stored_type_named("F8_E4M3"), std::nullopt);
}

}  // namespace
}  // namespace echo
