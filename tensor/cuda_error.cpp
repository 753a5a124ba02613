#include "tensor/cuda_error.h"

namespace echo::cuda {
namespace {

const char* remedy(cudaError_t status) {
  switch (status) {
    case cudaErrorInsufficientDriver: return "; the NVIDIA driver is too old for this program: update it, or write device: cpu";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "; this program holds no code for this GPU: build with SM= its compute capability (make SM=90), or write device: cpu";
    case cudaErrorDevicesUnavailable: return "; another process has the GPU for itself: wait for it, or choose another (device: cuda:1)";
    case cudaErrorMemoryAllocation: return "; other programs may hold its memory (nvidia-smi shows them)";
    default: return "";
  }
}

}  // namespace

void check(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  fail(ExitCode::device, operation, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")", remedy(status));
}

}  // namespace echo::cuda
