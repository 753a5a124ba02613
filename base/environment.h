#pragma once

#include <cstdlib>
#include <string_view>

namespace echo {

// Whether `variable` is 0 in the environment: how a choice of kernels is switched off, to compare.
inline bool is_switched_off(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && std::string_view(value) == "0";
}

}  // namespace echo
