#pragma once

#include <cstdlib>
#include <string_view>

namespace echo {

// True when the environment variable `variable` is "0". Kernel choices are switched off this way, for comparisons.
inline bool is_switched_off(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && std::string_view(value) == "0";
}

}  // namespace echo
