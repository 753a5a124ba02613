#pragma once

#include <bit>
#include <cstdint>

namespace echo {

// The upper half of an f32: 8 bits of exponent, 8 bits of precision. Rounds to nearest, ties to even. NaN stays NaN.
struct bfloat16 {
  uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    // Selections instead of branches, so that loops over arrays vectorise.
    const uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    bits = uint16_t(is_nan ? ((word >> 16) | 0x40u) : rounded);
  }
  operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};
static_assert(sizeof(bfloat16) == 2);

}  // namespace echo
