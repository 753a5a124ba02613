#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>

#include "base/error.h"
#include "tensor/bfloat16.h"

namespace echo {

// f64 is for gradient checks on the CPU.
enum class DType : uint8_t { f32, bf16, f64, i32, i64, u16 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::f64:
    case DType::i64:
      return 8;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  constexpr std::string_view names[] = {"f32", "bf16", "f64", "i32", "i64", "u16"};
  return names[size_t(dtype)];
}

inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

constexpr bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f64; }

template <class T>
struct dtype_of_t;
template <>
struct dtype_of_t<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of_t<bfloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of_t<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of_t<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of_t<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of_t<uint16_t> {
  static constexpr DType value = DType::u16;
};
template <class T>
inline constexpr DType dtype_of = dtype_of_t<T>::value;

// The type for sums over values of type T: f64 for f64, f32 for all others.
template <class T>
struct accumulator_t {
  using type = float;
};
template <>
struct accumulator_t<double> {
  using type = double;
};
template <class T>
using accumulator = typename accumulator_t<T>::type;

// The dtype for sums, losses and statistics over values of `dtype`: f64 for f64, f32 for all others.
constexpr DType accumulator_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

// Calls body.operator()<T>() with the C++ type of a floating dtype. Throws Error for integer dtypes.
//   dispatch_float(x.dtype(), [&]<class T>() { row_sums<T>(y, x); });
template <class Body>
void dispatch_float(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body.template operator()<float>();
    case DType::bf16:
      return body.template operator()<bfloat16>();
    case DType::f64:
      return body.template operator()<double>();
    default:
      ECHO_CHECK(false, "expected a floating dtype, got ", dtype);
  }
}

}  // namespace echo
