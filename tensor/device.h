#pragma once

#include <ostream>
#include <string>

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

// Whether this build holds CUDA code. Operations test it with `if constexpr`, so that a build without nvcc links although no
// cuda:: function is defined.
inline constexpr bool kWithCuda = ECHO_WITH_CUDA;

// A setting of a device: auto, cpu, cuda or cuda:N.
bool is_device_setting(const std::string& setting);

struct ChosenDevice {
  Device device;
  std::string reason;  // one line for the user: what was chosen and why
};

// What a setting means on this machine: auto is the first GPU, or the CPU where there is none. Makes a GPU that it chooses this
// process's GPU. Throws Error (device) when a GPU is asked for and there is none, and (usage) when the setting is none.
ChosenDevice choose_device(const std::string& setting);

}  // namespace echo
