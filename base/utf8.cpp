#include "base/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace echo {
namespace {

// The length in bytes of a sequence that begins with `lead`, and the range of its second byte.
// Length 0 means that it is not a lead byte.
struct SequenceShape {
  size_t length;
  uint8_t second_low, second_high;
};

SequenceShape shape_of(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};  // lower values would be overlong
  if (lead == 0xED) return {3, 0x80, 0x9F};  // higher values would be surrogates
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};  // lower values would be overlong
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};  // higher values would be above U+10FFFF
  return {0, 0, 0};
}

// Number of bytes from `position` on that fit `shape`, at most its length.
size_t fitting_bytes(std::string_view text, size_t position, const SequenceShape& shape) {
  const size_t available = std::min(shape.length, text.size() - position);
  for (size_t i = 1; i < available; ++i) {
    const auto byte = static_cast<uint8_t>(text[position + i]);
    const uint8_t low = i == 1 ? shape.second_low : 0x80, high = i == 1 ? shape.second_high : 0xBF;
    if (byte < low || byte > high) return i;
  }
  return available;
}

}  // namespace

size_t utf8_character_length(std::string_view text, size_t position) {
  const SequenceShape shape = shape_of(static_cast<uint8_t>(text[position]));
  return shape.length > 0 && fitting_bytes(text, position, shape) == shape.length ? shape.length : 0;
}

size_t valid_utf8_length(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    uint64_t word;
    while (position + sizeof word <= text.size()) {  // most text is ASCII, so check eight bytes at a time
      std::memcpy(&word, text.data() + position, sizeof word);
      if (word & 0x8080808080808080u) break;
      position += sizeof word;
    }
    if (position == text.size()) break;
    const size_t length = utf8_character_length(text, position);
    if (length == 0) break;
    position += length;
  }
  return position;
}

size_t incomplete_utf8_tail(std::string_view text) {
  for (size_t tail = 1; tail <= std::min<size_t>(3, text.size()); ++tail) {
    const size_t position = text.size() - tail;
    const SequenceShape shape = shape_of(static_cast<uint8_t>(text[position]));
    if (shape.length > tail && fitting_bytes(text, position, shape) == tail) return tail;
  }
  return 0;
}

}  // namespace echo
