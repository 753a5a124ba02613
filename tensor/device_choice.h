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

// A process among those of its machine that share the work.
struct LocalRank {
  int rank = 0, world = 1;
};

// Resolves a setting on this machine. auto is the first usable GPU, or the CPU when there is none. Of several processes each
// takes the next GPU, with auto and with cuda. A process that sees only one GPU (CUDA_VISIBLE_DEVICES) takes that one. A chosen
// GPU becomes the GPU of this process. Throws Error: device when the setting requires a GPU and there is none, usage when the
// setting is not valid or there are fewer GPUs than processes.
ChosenDevice choose_device(const std::string& setting, LocalRank local = {});

}  // namespace echo
