#include "weight_files/stored_type.h"

#include <cstring>
#include <limits>
#include <utility>

namespace echo {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read without exchanging bytes");

constexpr std::pair<StoredType, std::string_view> kNames[] = {
    {StoredType::f64, "F64"}, {StoredType::f32, "F32"}, {StoredType::f16, "F16"},     {StoredType::bf16, "BF16"},
    {StoredType::i64, "I64"}, {StoredType::i32, "I32"}, {StoredType::i16, "I16"},     {StoredType::i8, "I8"},
    {StoredType::u16, "U16"}, {StoredType::u8, "U8"},   {StoredType::boolean, "BOOL"}};

struct Half {  // a distinct type for one of the three 16-bit types
  uint16_t bits;
};
struct Boolean {
  uint8_t byte;
};

// memcpy, because tensors in a file may be unaligned.
template <class Stored>
Stored load(const std::byte* at) {
  Stored value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <class Stored, class T>
void convert_floats(const std::byte* from, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) {
    const Stored value = load<Stored>(from + i * int64_t(sizeof(Stored)));
    if constexpr (std::is_same_v<Stored, Half>)
      to[i] = T(float_from_half(value.bits));
    else if constexpr (std::is_same_v<T, bfloat16> || std::is_same_v<Stored, bfloat16>)
      to[i] = T(static_cast<float>(value));
    else
      to[i] = static_cast<T>(value);
  }
}

template <class Stored, class T>
bool convert_integers(const std::byte* from, int64_t count, T* to) {
  bool fits = true;
  for (int64_t i = 0; i < count; ++i) {
    const Stored value = load<Stored>(from + i * int64_t(sizeof(Stored)));
    if constexpr (std::is_same_v<Stored, Boolean>) {
      to[i] = T(value.byte != 0);
    } else {
      fits &= std::in_range<T>(value);
      to[i] = static_cast<T>(value);
    }
  }
  return fits;
}

template <class T>
bool to_float(StoredType type, const std::byte* from, int64_t count, T* to) {
  switch (type) {
    case StoredType::f64:
      convert_floats<double>(from, count, to);
      return true;
    case StoredType::f32:
      convert_floats<float>(from, count, to);
      return true;
    case StoredType::f16:
      convert_floats<Half>(from, count, to);
      return true;
    case StoredType::bf16:
      convert_floats<bfloat16>(from, count, to);
      return true;
    default:
      return false;
  }
}

template <class T>
bool to_integer(StoredType type, const std::byte* from, int64_t count, T* to) {
  switch (type) {
    case StoredType::i64:
      return convert_integers<int64_t>(from, count, to);
    case StoredType::i32:
      return convert_integers<int32_t>(from, count, to);
    case StoredType::i16:
      return convert_integers<int16_t>(from, count, to);
    case StoredType::i8:
      return convert_integers<int8_t>(from, count, to);
    case StoredType::u16:
      return convert_integers<uint16_t>(from, count, to);
    case StoredType::u8:
      return convert_integers<uint8_t>(from, count, to);
    case StoredType::boolean:
      return convert_integers<Boolean>(from, count, to);
    default:
      return false;
  }
}

}  // namespace

std::string_view name_of(StoredType type) { return kNames[size_t(type)].second; }

std::optional<StoredType> stored_type_named(std::string_view safetensors_name) {
  for (const auto& [type, name] : kNames)
    if (name == safetensors_name) return type;
  return std::nullopt;
}

StoredType stored_type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return StoredType::f32;
    case DType::bf16:
      return StoredType::bf16;
    case DType::f64:
      return StoredType::f64;
    case DType::i32:
      return StoredType::i32;
    case DType::i64:
      return StoredType::i64;
    case DType::u16:
      return StoredType::u16;
  }
  ECHO_CHECK(false, "stored_type_of: unknown dtype");
}

DType native_dtype(StoredType type) {
  switch (type) {
    case StoredType::f64:
      return DType::f64;
    case StoredType::f32:
    case StoredType::f16:
      return DType::f32;
    case StoredType::bf16:
      return DType::bf16;
    case StoredType::i64:
      return DType::i64;
    case StoredType::u16:
      return DType::u16;
    case StoredType::i32:
    case StoredType::i16:
    case StoredType::i8:
    case StoredType::u8:
    case StoredType::boolean:
      return DType::i32;
  }
  ECHO_CHECK(false, "native_dtype: unknown type");
}

bool convert_elements(StoredType type, std::span<const std::byte> bytes, Tensor& destination, int64_t first) {
  const int64_t count = int64_t(bytes.size()) / size_of(type);
  ECHO_CHECK(int64_t(bytes.size()) % size_of(type) == 0 && first >= 0 && first + count <= destination.elements() &&
                 destination.is_contiguous() && destination.device().is_cpu(),
             "convert_elements: ", bytes.size(), " bytes of ", type, " into ", destination, " from element ", first);
  if (count == 0) return true;
  if (type == stored_type_of(destination.dtype())) {
    std::memcpy(static_cast<std::byte*>(destination.raw_data()) + first * size_of(type), bytes.data(), bytes.size());
    return true;
  }
  switch (destination.dtype()) {
    case DType::f32:
      return to_float(type, bytes.data(), count, destination.data<float>() + first);
    case DType::bf16:
      return to_float(type, bytes.data(), count, destination.data<bfloat16>() + first);
    case DType::f64:
      return to_float(type, bytes.data(), count, destination.data<double>() + first);
    case DType::i32:
      return to_integer(type, bytes.data(), count, destination.data<int32_t>() + first);
    case DType::i64:
      return to_integer(type, bytes.data(), count, destination.data<int64_t>() + first);
    case DType::u16:
      return false;
  }
  return false;
}

Tensor converted(const Tensor& source, DType dtype) {
  if (source.dtype() == dtype) return source;
  const Tensor from = source.contiguous();
  Tensor result = Tensor::empty(source.shape(), dtype);
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(from.raw_data()), size_t(from.bytes()));
  ECHO_CHECK(convert_elements(stored_type_of(from.dtype()), bytes, result, 0), "converted: ", source, " to ", dtype);
  return result;
}

}  // namespace echo
