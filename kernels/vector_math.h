#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tensor/dtype.h"

// Vectors as wide as the registers of the target instruction set, and functions on them that compilers do not generate from
// loops over plain floats. Everything is inlined, so that code for another instruction set shares no function with this code.
namespace echo::kernels {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

#define ECHO_INLINE inline __attribute__((always_inline))

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t integers __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t words __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t integers __attribute__((vector_size(kVectorBytes)));
  typedef uint64_t words __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
using IntegerVector = typename VectorOf<T>::integers;

template <class T>
inline constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
ECHO_INLINE Vector<T> load(const T* address) {
  Vector<T> result;
  std::memcpy(&result, address, sizeof result);
  return result;
}

template <class T>
ECHO_INLINE void store(T* address, Vector<T> value) {
  std::memcpy(address, &value, sizeof value);
}

template <class T>
ECHO_INLINE Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

// Keeps a value that is used several times in a register. Otherwise the compiler reads it from memory at each use, and loops
// over tiles are limited by loads.
template <class T>
ECHO_INLINE Vector<T> in_register(Vector<T> value) {
#if defined(__AVX512F__)
  asm("" : "+v"(value));
#elif defined(__x86_64__)
  asm("" : "+x"(value));
#endif
  return value;
}

// The smaller and the larger value, lane by lane. If a is NaN the result is b. For the plain expression the compiler would
// generate a comparison and a selection instead of one instruction. (The masked forms with all lanes set are used because GCC
// 12 warns about the headers of the others.)
template <class T>
ECHO_INLINE Vector<T> minimum(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_maskz_min_ps(__mmask16(-1), a, b);
  else
    return _mm512_maskz_min_pd(__mmask8(-1), a, b);
#elif defined(__AVX__)
  if constexpr (std::is_same_v<T, float>)
    return _mm256_min_ps(a, b);
  else
    return _mm256_min_pd(a, b);
#else
  return a < b ? a : b;
#endif
}

template <class T>
ECHO_INLINE Vector<T> maximum(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_maskz_max_ps(__mmask16(-1), a, b);
  else
    return _mm512_maskz_max_pd(__mmask8(-1), a, b);
#elif defined(__AVX__)
  if constexpr (std::is_same_v<T, float>)
    return _mm256_max_ps(a, b);
  else
    return _mm256_max_pd(a, b);
#else
  return a > b ? a : b;
#endif
}

// True when a > b in any lane.
template <class T>
ECHO_INLINE bool any_greater(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
  else
    return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ) != 0;
#elif defined(__AVX__)
  if constexpr (std::is_same_v<T, float>)
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
  else
    return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ)) != 0;
#else
  const IntegerVector<T> greater = a > b;
  bool any = false;
  for (int lane = 0; lane < kLanes<T>; ++lane) any |= greater[lane] != 0;
  return any;
#endif
}

// The vector 0, 1, 2, ...
template <class T>
ECHO_INLINE IntegerVector<T> lane_numbers() {
  IntegerVector<T> result;
  for (int i = 0; i < kLanes<T>; ++i) result[i] = i;
  return result;
}

// Sums the lanes pairwise, in a fixed order.
template <class T>
ECHO_INLINE T sum_of_lanes(Vector<T> x) {
  T lanes[kLanes<T>];
  store<T>(lanes, x);
  for (int width = kLanes<T> / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

template <class T>
ECHO_INLINE T maximum_of_lanes(Vector<T> x) {
  T result = x[0];
  for (int i = 1; i < kLanes<T>; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

template <class T>
inline constexpr T kLog2OfE = T(1.4426950408889634073599L);
template <class T>
inline constexpr T kLogOf2 = T(0.6931471805599453094172L);

// 2^f for f in [-1/2, 1/2].
template <class T>
ECHO_INLINE Vector<T> exp2_polynomial(Vector<T> f) {
  if constexpr (std::is_same_v<T, float>) {
    Vector<T> p = f * 1.53458130e-4f + 1.33999312e-3f;
    p = p * f + 9.61848895e-3f;
    p = p * f + 5.55032878e-2f;
    p = p * f + 2.40226469e-1f;
    p = p * f + 6.93147206e-1f;
    return p * f + 1.0f;
  } else {
    constexpr double kSeries[] = {1.3691488853904128e-12, 2.5678435993488205e-11,
                                  4.4455382718708117e-10, 7.0549116208011234e-09,
                                  1.0178086009239700e-07, 1.3215486790144309e-06,
                                  1.5252733804059841e-05, 1.5403530393381609e-04,
                                  1.3333558146428443e-03, 9.6181291076284769e-03,
                                  5.5504108664821583e-02, 2.4022650695910072e-01,
                                  6.9314718055994531e-01, 1.0};
    Vector<T> p = f * kSeries[0] + kSeries[1];
    for (int i = 2; i < 14; ++i) p = p * f + kSeries[i];
    return p;
  }
}

// 2^x for x <= 0. Exactly 0 where the result would be below the smallest normal number, for any x down to -max. Method: x = n +
// f with f in [-1/2, 1/2], a polynomial for 2^f, then n is added to the exponent bits. f32: minimax of degree 6, relative error
// 2e-9, so about 1 ulp after rounding. f64: the series to degree 13, relative error 4e-18.
template <class T>
ECHO_INLINE Vector<T> exp2_of_nonpositive(Vector<T> x) {
  constexpr bool kSingle = std::is_same_v<T, float>;
  // Adding 1.5 * 2^(digits - 1) puts round(x) into the low bits of the significand.
  constexpr T kRounder = kSingle ? T(12582912) : T(6755399441055744);
  constexpr T kSmallest = kSingle ? T(-126) : T(-1022);
  constexpr int kExponentShift = kSingle ? 23 : 52;
#if defined(__AVX512F__)
  if constexpr (kSingle) {
    // This instruction set has one instruction to round, and one to scale by a power of two.
    const Vector<T> n = _mm512_maskz_roundscale_ps(__mmask16(-1), x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, broadcast(kSmallest), _CMP_GE_OQ), exp2_polynomial<T>(x - n), n);
  }
#endif
  const Vector<T> shifted = x + kRounder;
  const Vector<T> p = exp2_polynomial<T>(x - (shifted - kRounder));
  using Words = typename VectorOf<T>::words;  // wraps around in lanes that underflow, which are not used
  const Vector<T> result = (Vector<T>)((Words)p + ((Words)shifted << kExponentShift));
  return x < kSmallest ? Vector<T>{} : result;
}

// log2(x) for normal positive x: the exponent, plus 2 / ln 2 * atanh((m - 1) / (m + 1)) for the significand m, which is in
// [1/sqrt 2, sqrt 2].
template <class T>
ECHO_INLINE Vector<T> log2_of_positive(Vector<T> x) {
  constexpr bool kSingle = std::is_same_v<T, float>;
  constexpr int kExponentShift = kSingle ? 23 : 52;
  using I = IntegerVector<T>;
  // Subtracting the bits of 1/sqrt 2 makes the exponent field change at that value.
  I half_root;
  if constexpr (kSingle)
    half_root = I{} + 0x3f3504f3;
  else
    half_root = I{} + 0x3fe6a09e667f3bcdLL;
  const I exponent = ((I)x - half_root) >> kExponentShift;
  const Vector<T> m = (Vector<T>)((I)x - (exponent << kExponentShift));
  const Vector<T> z = (m - T(1)) / (m + T(1));
  const Vector<T> square = z * z;
  constexpr int kTerms = kSingle ? 5 : 12;  // z^2 <= 0.0295: the first omitted term is 3e-10 (f32), 3e-20 (f64)
  Vector<T> series = broadcast<T>(T(1) / T(2 * kTerms - 1));
  for (int i = kTerms - 1; i > 0; --i) series = series * square + T(1) / T(2 * i - 1);
  return __builtin_convertvector(exponent, Vector<T>) + z * series * (2 * kLog2OfE<T>);
}

// Transposes a square block whose side is the number of lanes: target[j][i] = factor * source[i][j], with rows `source_stride`
// and `target_stride` elements apart. In each of log2(lanes) rounds, pairs of rows exchange halves of smaller and smaller
// blocks.
template <class T>
ECHO_INLINE void transpose_square(T* target, int64_t target_stride, const T* source, int64_t source_stride, T factor = 1) {
  constexpr int N = kLanes<T>;
  using I = IntegerVector<T>;
  Vector<T> rows[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) rows[i] = load(source + i * source_stride) * factor;
#pragma GCC unroll 4
  for (int half = N / 2; half > 0; half /= 2) {
    I low, high;
    for (int lane = 0; lane < N; ++lane) {
      const bool first = (lane & half) == 0;
      low[lane] = first ? lane : N + lane - half;
      high[lane] = first ? lane + half : N + lane;
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if ((i & half) != 0) continue;
      const Vector<T> a = rows[i], b = rows[i + half];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + half] = __builtin_shuffle(a, b, high);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) store<T>(target + i * target_stride, rows[i]);
}

}  // namespace echo::kernels
