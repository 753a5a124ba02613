#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace echo::kernels {

// e^x without branches or calls, so that a loop over an array vectorises. The relative error is below 1.5e-7 (about one unit in
// the last place). Results below the smallest normal number (x < -87.3) are 0, and above x = 88.72 infinity. NaN stays NaN.
// Method: x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, Cody and Waite), a polynomial for e^r, and 2^n by its
// exponent bits.
inline float exponential(float x) {
  constexpr float kLowest = -87.3f, kHighest = 88.72f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low mantissa bits
  const float clamped = x < kLowest ? kLowest : (x > kHighest ? kHighest : x);
  const float shifted = clamped * 1.44269504088896341f + kRound;
  const int32_t n = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const float n_float = shifted - kRound;
  const float r = (clamped - n_float * 0.693359375f) + n_float * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n as two factors, because n goes from -126 to 128, and 2^128 is not an f32.
  const int32_t half = n >> 1;
  const float result = p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((n - half + 127) << 23);
  const float above = x > kHighest ? std::numeric_limits<float>::infinity() : result;
  return x < kLowest ? 0.0f : above;
}

inline double exponential(double x) { return std::exp(x); }

}  // namespace echo::kernels
