#pragma once

#include <ostream>

namespace echo {

enum class DeviceKind : unsigned char { cpu, cuda };

// Where a tensor's memory is. Prints as cpu or cuda:0.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;

  bool is_cpu() const { return kind == DeviceKind::cpu; }
  friend bool operator==(const Device&, const Device&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Device& device) {
    if (device.is_cpu()) return out << "cpu";
    return out << "cuda:" << device.index;
  }
};

// True when this build contains CUDA code. Operations test it with `if constexpr`, so that a build without nvcc links although
// no cuda:: function is defined.
inline constexpr bool kWithCuda = ECHO_WITH_CUDA;

}  // namespace echo
