#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace echo {

// A sum of f64 numbers from 0 on, kept without rounding. So neither their order nor the way in which they are divided among
// ranks changes a bit. At most 2^31 numbers. Once an infinity or a NaN was added, the sum is not finite.
class ExactSum {
 public:
  void add(double number);

  // The sum as whole numbers below 2^32 each, and the sum of what is not finite. Sums of parts() over up to 2^20 ranks, element
  // by element, are exact in f64.
  std::vector<double> parts() const;
  // The sum that parts(), or sums of them, stand for, rounded to f64.
  static double value(const std::vector<double>& parts);

 private:
  // Digits to the base 2^32, the lowest first. The lowest bit of digits_[0] stands for 2^-1126, and the largest f64 ends in
  // digit 67.
  static constexpr int kDigits = 70, kLowest = -1126;
  std::array<uint64_t, kDigits> digits_{};
  double not_finite_ = 0;
};

}  // namespace echo
