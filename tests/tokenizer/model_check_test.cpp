#include "tokenizer/model_check.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "tests/test_support.h"
#include "tokenizer/charsmap_check.h"

namespace echo {
namespace {

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += char(value | 0x80);
  return out + char(value);
}
std::string number(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes(uint32_t field, const std::string& value) { return varint(field << 3 | 2) + varint(value.size()) + value; }
std::string float32(uint32_t field, float value) {
  std::string out(4, '\0');
  std::memcpy(out.data(), &value, 4);
  return varint(field << 3 | 5) + out;
}
std::string piece(const std::string& text, uint64_t type, float score = 0) {
  return bytes(1, bytes(1, text) + float32(2, score) + number(3, type));
}
enum : uint64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

const std::string kSpecial = piece("<unk>", kUnknown) + piece("<s>", kControl) + piece("</s>", kControl);
const std::string kBpe = number(3, 2);

std::string refusal(const std::string& model) {
  return error_message(ExitCode::bad_data, [&] { check_tokenizer_model(model, "x.model"); });
}
void expect_refused(const std::string& model, const std::string& text) {
  const std::string message = refusal(model);
  EXPECT_EQ(message.rfind("x.model", 0), 0u) << message;
  expect_contains(message, text);
}

TEST(TokenizerModelCheckTest, AcceptsASmallestModel) {
  check_tokenizer_model(kSpecial + piece("a", kNormal) + bytes(2, kBpe), "x.model");
  check_tokenizer_model(kSpecial + piece("a", kNormal) + bytes(2, kBpe) + bytes(3, bytes(1, "identity") + number(3, 1)), "x");
}

TEST(TokenizerModelCheckTest, RefusesEachFaultWithItsName) {
  const std::string good = kSpecial + piece("a", kNormal), spec = bytes(2, kBpe);
  expect_refused(spec, "no pieces");
  expect_refused(good, "trainer settings are missing");
  expect_refused(good + spec + spec, "twice");
  expect_refused(piece("a", kNormal) + spec, "0 unknown pieces");
  expect_refused(good + piece("<unk2>", kUnknown) + spec, "2 unknown pieces");
  expect_refused(good + piece("a", kNormal) + spec, "\"a\" is piece 3 already");
  expect_refused(good + piece("", kNormal) + spec, "piece 4 is damaged: it has no text");
  expect_refused(good + bytes(1, bytes(1, "b")) + spec, "no score");
  expect_refused(good + piece("b", 7) + spec, "type 7 is unknown");
  expect_refused(good + piece("b", kNormal, std::numeric_limits<float>::quiet_NaN()) + spec, "score is not finite");
  expect_refused(good + piece("\xC3", kNormal) + spec, "not valid UTF-8");
  expect_refused(good + piece(std::string("a\0b", 3), kNormal) + spec, "zero byte");
  expect_refused(good + piece(std::string(9000, 'x'), kNormal) + spec, "9000 bytes long");
  expect_refused(good + bytes(2, number(3, 3)), "model type 3 is not supported");
  expect_refused(good + bytes(2, kBpe + number(41, 40)), "begin id 40 is outside the 4 pieces");
  expect_refused(good + bytes(2, kBpe + number(41, 3)), "begin id 3 is the piece \"a\"");
  expect_refused(good + bytes(2, kBpe + bytes(35, "on")), "not a number");
  expect_refused(good + bytes(2, kBpe + number(35, 2)), "not a truth value");
  expect_refused(good + bytes(2, kBpe + number(35, 1)), "256 of the 256 byte pieces are missing");
  expect_refused(good + piece("<0x41>", kByte) + spec, "although byte_fallback is off");
  expect_refused(good + piece("<0x4g>", kByte) + bytes(2, kBpe + number(35, 1)), "is not <0x00> to <0xFF>");
  expect_refused(good + spec + bytes(5, bytes(2, "rules")), "denormalisation rules are not supported");
  expect_refused(good + spec + bytes(9, "?"), "unknown field 9");
  expect_refused((good + spec).substr(0, good.size() + 3), "bytes where 1 are left");
  expect_refused(good + spec + "\x0B", "wire type 3");
  expect_refused(good + spec + std::string(11, '\xFF'), "does not fit 64 bits");
  std::string nested = good;
  for (size_t i = 1; i <= 40; ++i) nested += piece(std::string(i, 'z'), kUserDefined);
  expect_refused(nested + spec, "user-defined pieces are prefixes");
}

// One trie by hand: the rule "A" -> replacement at `value`. Root (unit 0) has children at base ^ label.
std::string one_rule(uint32_t value, const std::string& replacements, uint32_t root_offset = 0) {
  std::vector<uint32_t> units(256, 0x80000000u);  // values: they match no label
  units[0] = root_offset << 10 | 'x';
  units['A'] = ('A' ^ 200u) << 10 | 1u << 8 | 'A';  // its own base is 200: the value is stored there
  units[200] = value | 0x80000000u;
  std::string out(4 + 1024, '\0');
  const uint32_t size = 1024;
  std::memcpy(out.data(), &size, 4);
  std::memcpy(out.data() + 4, units.data(), 1024);
  return out + replacements;
}

TEST(CharsmapCheckTest, AcceptsARuleAndRefusesWhatWouldBeReadOutsideTheTables) {
  const auto message = [](const std::string& charsmap) {
    return error_message(ExitCode::bad_data, [&] { check_charsmap(charsmap, "x"); });
  };
  const std::string table("a\0bc\0", 5);
  check_charsmap("", "x");
  check_charsmap(one_rule(2, table), "x");
  EXPECT_NE(message(one_rule(5, table)).find("outside the table"), std::string::npos);
  EXPECT_NE(message(one_rule(2, "a\0bc")).find("no end"), std::string::npos);
  EXPECT_NE(message(one_rule(0, std::string(2000, 'x') + '\0')).find("longer than 1 KiB"), std::string::npos);
  EXPECT_NE(message(one_rule(2, table, 256)).find("offset points outside"), std::string::npos);
  EXPECT_NE(message("abc").find("only 3 bytes"), std::string::npos);
  EXPECT_NE(message(std::string(100, '\xFF')).find("is declared"), std::string::npos);
  std::string ragged = one_rule(2, table);
  ragged[0] = 4;
  EXPECT_NE(message(ragged).find("blocks of 1024"), std::string::npos);
}

TEST(CharsmapCheckTest, RefusesACyclicTrieAndTooManyNestedRules) {
  std::string cyclic = one_rule(0, "");
  const uint32_t node = uint32_t('A') << 10 | 'A';  // its base is 0, the root's: "A" leads to itself
  std::memcpy(cyclic.data() + 4 + 4 * 'A', &node, 4);
  const std::string message = error_message(ExitCode::bad_data, [&] { check_charsmap(cyclic + std::string("a\0", 2), "x"); });
  expect_contains(message, "cycle");

  // A chain: the rules "\1", "\1\1", ... 40 of them; node k's base is the aligned block k, where value and next node lie.
  std::vector<uint32_t> units(256 * 64, 0x80000000u);
  uint32_t index = 0;
  for (uint32_t k = 1; k <= 40; ++k) {
    const uint32_t base = 256 * k;
    units[index] = (index ^ base) << 10 | (index == 0 ? 'x' : 1u << 8 | 1u);  // base is a multiple of 256: low bits stay
    index = base ^ 1;
  }
  units[index] = (index ^ (256u * 41)) << 10 | 1u << 8 | 1u;
  std::string chain(4 + units.size() * 4, '\0');
  const uint32_t chain_size = uint32_t(units.size() * 4);
  std::memcpy(chain.data(), &chain_size, 4);
  std::memcpy(chain.data() + 4, units.data(), chain_size);
  const std::string nested = error_message(ExitCode::bad_data, [&] { check_charsmap(chain + std::string("a\0", 2), "x"); });
  EXPECT_NE(nested.find("prefixes of one another"), std::string::npos) << nested;
}

}  // namespace
}  // namespace echo
