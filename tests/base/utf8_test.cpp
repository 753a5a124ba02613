#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace echo {
namespace {

std::string encode_utf8(uint32_t value) {
  if (value < 0x80) return {char(value)};
  if (value < 0x800) return {char(0xC0 | value >> 6), char(0x80 | (value & 63))};
  if (value < 0x10000) return {char(0xE0 | value >> 12), char(0x80 | (value >> 6 & 63)), char(0x80 | (value & 63))};
  return {char(0xF0 | value >> 18), char(0x80 | (value >> 12 & 63)), char(0x80 | (value >> 6 & 63)), char(0x80 | (value & 63))};
}

TEST(Utf8Test, AcceptsExactlyTheUnicodeScalarValues) {
  for (uint32_t value = 0; value < 0x120000; value += value < 0x20000 ? 1 : 37) {
    const bool scalar = value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
    ASSERT_EQ(is_valid_utf8(encode_utf8(value)), scalar) << std::hex << value;
  }
}

TEST(Utf8Test, RefusesOverlongFormsAndStrayBytes) {
  for (const char* text :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\x80", "abcdefgh\xBF",
        "\xC3", "\xE2\x82", "\xF5\x80\x80\x80", "\xFF", "a\xC3(", "12345678\xE2\x28\xA1"})
    EXPECT_FALSE(is_valid_utf8(text)) << text;
  EXPECT_TRUE(is_valid_utf8("plain ascii, long enough for words; caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
  EXPECT_TRUE(is_valid_utf8(""));
}

TEST(Utf8Test, ValidLengthIsTheOffsetOfTheFirstBadByte) {
  const std::string good = "caf\xC3\xA9 and more than eight bytes";
  EXPECT_EQ(valid_utf8_length(good), good.size());
  EXPECT_EQ(valid_utf8_length(good + "\xE2\x82"), good.size()) << "a cut character";
  EXPECT_EQ(valid_utf8_length(good + "\xFF" + good), good.size());
  EXPECT_EQ(valid_utf8_length("\x80"), 0u);
  EXPECT_EQ(valid_utf8_length(""), 0u);
}

TEST(Utf8Test, TailIsWhatMoreBytesCouldComplete) {
  EXPECT_EQ(incomplete_utf8_tail(""), 0u);
  EXPECT_EQ(incomplete_utf8_tail("abc"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("a\xC3"), 1u);
  EXPECT_EQ(incomplete_utf8_tail("a\xE2\x82"), 2u);
  EXPECT_EQ(incomplete_utf8_tail("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incomplete_utf8_tail("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xE0\x80"), 0u) << "overlong: no third byte can mend it";
  EXPECT_EQ(incomplete_utf8_tail("\xC3\xA9\xC3"), 1u);
  EXPECT_EQ(incomplete_utf8_tail("\x80\x80"), 0u);
}

}  // namespace
}  // namespace echo
