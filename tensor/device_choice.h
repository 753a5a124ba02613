#pragma once

#include <string>

#include "tensor/device.h"

namespace echo {

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
