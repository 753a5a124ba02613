#pragma once

#include <string>

#include "tensor/device.h"

namespace echo {

// True for valid settings of a device: auto, cpu, cuda or cuda:N.
bool is_device_setting(const std::string& setting);

struct ChosenDevice {
  Device device;
  std::string reason;  // one line for the user: what was chosen and why
};

// Resolves a setting on this machine. auto is the first usable GPU, or the CPU when there is none. A chosen GPU becomes the GPU
// of this process. Throws Error: device when the setting requires a GPU and there is none, usage when the setting is not valid.
ChosenDevice choose_device(const std::string& setting);

}  // namespace echo
