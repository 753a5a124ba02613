#pragma once

#include <cstdint>
#include <string>

namespace echo {

// Digits in groups of three: 1,234,567.
std::string grouped(int64_t value);

// "12", "0.25", "15.5k", "1.1M", "2e-5": at most four significant digits. "-" for numbers that are not finite.
std::string short_number(double value);

}  // namespace echo
