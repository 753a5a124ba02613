#include "tensor/device_choice.h"

#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "tensor/cuda_device.h"

namespace echo {
namespace {

// The number N of "cuda:N", 0 for "cuda", -1 for anything else.
int gpu_index(const std::string& setting) {
  if (setting == "cuda") return 0;
  if (!setting.starts_with("cuda:")) return -1;
  int index = -1;
  const char* const end = setting.data() + setting.size();
  const auto [stop, error] = std::from_chars(setting.data() + 5, end, index);
  return error == std::errc() && stop == end && index < 1024 ? index : -1;
}

// The GPU that the setting means for this process.
int gpu_of(const std::string& setting, LocalRank local, const cuda::DeviceCount& found) {
  if (local.world > 1 && setting.starts_with("cuda:"))
    fail(ExitCode::usage, "device ", setting, ": one GPU for ", local.world,
         " processes of this machine; write device: cuda, and each takes its own");
  const int first = setting == "auto" ? found.first : gpu_index(setting);
  if (found.count == 1 && std::getenv("CUDA_VISIBLE_DEVICES") != nullptr) return first;
  if (found.count > 0 && first + local.world > found.count)
    fail(ExitCode::usage, "device ", setting, ": ", local.world, " processes on this machine, but ", found.count - first,
         " GPU(s); start fewer processes, or write device: cpu");
  return first + local.rank;
}

}  // namespace

bool is_device_setting(const std::string& setting) { return setting == "auto" || setting == "cpu" || gpu_index(setting) >= 0; }

ChosenDevice choose_device(const std::string& setting, LocalRank local) {
  if (!is_device_setting(setting)) fail(ExitCode::usage, "device ", setting, ": expected auto, cpu, cuda or cuda:N");
  if (setting == "cpu") return {Device{}, "cpu, as requested"};
  if constexpr (kWithCuda) {
    const cuda::DeviceCount found = cuda::device_count();
    if (setting == "auto" && found.count == 0) return {Device{}, concat("cpu: ", found.reason)};
    const Device device{DeviceKind::cuda, gpu_of(setting, local, found)};
    cuda::use_device(device.index);
    const cuda::DeviceProperties& gpu = cuda::properties();
    return {device, concat(device, " (", gpu.name, ", ", gpu.memory_bytes >> 30, " GiB)",
                           setting == "auto" ? concat(": ", found.count, found.count == 1 ? " GPU" : " GPUs", " found")
                                             : ", as requested")};
  } else {
    if (setting == "auto") return {Device{}, "cpu: this program is built without CUDA"};
    fail(ExitCode::device, "device ", setting,
         ": this program is built without CUDA; build it where nvcc is installed, or write device: cpu");
  }
}

}  // namespace echo
