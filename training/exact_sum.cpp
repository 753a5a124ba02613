#include "training/exact_sum.h"

#include <cmath>

#include "base/error.h"

namespace echo {
namespace {

constexpr uint64_t kMask = 0xffffffffu;

template <class Digits>
void carry(Digits& digits) {
  for (size_t i = 0; i + 1 < digits.size(); ++i) {
    digits[i + 1] += digits[i] >> 32;
    digits[i] &= kMask;
  }
}

}  // namespace

void ExactSum::add(double number) {
  if (!std::isfinite(number)) {
    not_finite_ += number;
    return;
  }
  ECHO_CHECK(number >= 0, "exact sum: ", number, ", expected 0 or more");
  int exponent = 0;
  const auto whole = uint64_t(std::ldexp(std::frexp(number, &exponent), 53));  // number = whole * 2^(exponent - 53)
  const int position = exponent - 53 - kLowest, shift = position % 32;
  const auto digit = size_t(position / 32);
  const uint64_t low = (whole & kMask) << shift, high = (whole >> 32) << shift;
  digits_[digit] += low & kMask;
  digits_[digit + 1] += (low >> 32) + (high & kMask);
  digits_[digit + 2] += high >> 32;
}

std::vector<double> ExactSum::parts() const {
  std::array<uint64_t, kDigits> digits = digits_;
  carry(digits);
  std::vector<double> result(digits.begin(), digits.end());
  result.push_back(not_finite_);
  return result;
}

double ExactSum::value(const std::vector<double>& parts) {
  ECHO_CHECK(parts.size() == kDigits + 1, "exact sum: ", parts.size(), " parts, expected ", kDigits + 1);
  if (parts.back() != 0) return parts.back();
  std::vector<uint64_t> digits(parts.begin(), parts.end() - 1);
  carry(digits);
  // The three highest digits that are not zero have at least 65 bits.
  size_t top = digits.size() - 1;
  while (top > 2 && digits[top] == 0) --top;
  const double highest = double((digits[top] << 32) | digits[top - 1]);
  return std::ldexp(highest + std::ldexp(double(digits[top - 2]), -32), kLowest + 32 * int(top - 1));
}

}  // namespace echo
