#include "report/numbers.h"

#include <fmt/format.h>

#include <cmath>

namespace echo {

std::string grouped(int64_t value) {
  std::string digits = std::to_string(value);
  for (int64_t at = int64_t(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) digits.insert(size_t(at), 1, ',');
  return digits;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  if (!std::isfinite(value)) return "-";
  if (size >= 1e12) return fmt::format("{:.3g}", value);
  if (size >= 1e9) return fmt::format("{:.4g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.4g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g}k", value / 1e3);
  if (size >= 1e-3 || size == 0.0) return fmt::format("{:.4g}", value);
  // 1.4e-4 instead of 1.4e-04
  const int exponent = int(std::floor(std::log10(size) + 1e-12));
  return fmt::format("{:.4g}e{}", value / std::pow(10.0, exponent), exponent);
}

}  // namespace echo
