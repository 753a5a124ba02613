#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <span>
#include <string_view>

#include "tensor/tensor.h"

namespace echo {

// Element types in files, all little-endian. There are more of them than tensor dtypes, because other programs also write
// files.
enum class StoredType : uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u16, u8, boolean };

constexpr int64_t size_of(StoredType type) {
  switch (type) {
    case StoredType::f64:
    case StoredType::i64:
      return 8;
    case StoredType::f32:
    case StoredType::i32:
      return 4;
    case StoredType::f16:
    case StoredType::bf16:
    case StoredType::i16:
    case StoredType::u16:
      return 2;
    case StoredType::i8:
    case StoredType::u8:
    case StoredType::boolean:
      return 1;
  }
  return 0;
}

// Names in safetensors files: F32, BF16, I64, BOOL, ...
std::string_view name_of(StoredType type);
std::optional<StoredType> stored_type_named(std::string_view safetensors_name);
inline std::ostream& operator<<(std::ostream& out, StoredType type) { return out << name_of(type); }

constexpr bool is_float(StoredType type) {
  return type == StoredType::f64 || type == StoredType::f32 || type == StoredType::f16 || type == StoredType::bf16;
}

StoredType stored_type_of(DType dtype);

// The tensor dtype that can represent every value of the type: f16 becomes f32, and integers of 8 and 16 bits become i32. All
// other types are unchanged.
DType native_dtype(StoredType type);

// The exact value of an IEEE 754 half (1 sign, 5 exponent, 10 fraction bits). A NaN keeps sign and payload.
inline float float_from_half(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, which is a normal number in f32
    const float magnitude = float(fraction) * 0x1.0p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide = exponent == 0x1f ? 0xffu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

// Converts consecutive elements from the file layout (any alignment) into destination[first, first + bytes / size_of(type)).
// destination: CPU, contiguous. f64 to bf16 goes through f32. Returns false for float to integer, integer to float, or an
// integer that does not fit. Then the content is undefined.
[[nodiscard]] bool convert_elements(StoredType type, std::span<const std::byte> bytes, Tensor& destination, int64_t first);

// A copy of `source` in another floating dtype, or `source` itself when it already has that dtype. CPU only.
Tensor converted(const Tensor& source, DType dtype);

}  // namespace echo
