#include "tensor/cuda_error.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace echo::cuda {
namespace {

const char* remedy(cudaError_t status) {
  switch (status) {
    case cudaErrorInsufficientDriver:
      return "; the NVIDIA driver is too old for this program: update it, or write device: cpu";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return "; this program holds no code for this GPU: build with SM= its compute capability (make SM=90), or write device: "
             "cpu";
    case cudaErrorDevicesUnavailable:
      return "; another process has the GPU for itself: wait for it, or choose another (device: cuda:1)";
    case cudaErrorMemoryAllocation:
      return "; other programs may hold its memory (nvidia-smi shows them)";
    default:
      return "";
  }
}

}  // namespace

void check(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  fail(ExitCode::device, operation, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")", remedy(status));
}

void check_launch(cudaError_t status, const char* name, dim3 grid, dim3 block, size_t shared_bytes) {
  if (status == cudaSuccess) [[likely]]
    return;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      name == nullptr ? nullptr : abi::__cxa_demangle(name, nullptr, nullptr, nullptr), &std::free);
  check(status, "launch of ",
        readable != nullptr ? readable.get()
        : name != nullptr   ? name
                            : "a kernel",
        " (grid ", grid.x, " x ", grid.y, " x ", grid.z, ", block ", block.x * block.y * block.z, ", ", shared_bytes,
        " bytes of shared memory)");
}

}  // namespace echo::cuda
