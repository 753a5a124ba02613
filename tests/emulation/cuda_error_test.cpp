// What a user reads when a GPU cannot be used, and what a failing device does to a run.
#include "tensor/cuda_error.h"

#include <gtest/gtest.h>

#include "tensor/device.h"

namespace echo {
namespace {

std::string message_of(cudaError_t status) {
  try {
    cuda::check(status, "launch of ", "a kernel");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::device);
    return error.what();
  }
  return "no error";
}

TEST(CudaErrorTest, EachKindNamesTheCallAndItsRemedy) {
  EXPECT_EQ(message_of(cudaSuccess), "no error");
  for (const auto& [status, remedy] : {std::pair(cudaErrorInsufficientDriver, "driver is too old"),
                                       std::pair(cudaErrorNoKernelImageForDevice, "make SM=90"),
                                       std::pair(cudaErrorUnsupportedPtxVersion, "no code for this GPU"),
                                       std::pair(cudaErrorDevicesUnavailable, "another process has the GPU"),
                                       std::pair(cudaErrorMemoryAllocation, "nvidia-smi")}) {
    const std::string message = message_of(status);
    EXPECT_EQ(message.find("launch of a kernel: "), 0u) << message;
    EXPECT_NE(message.find(remedy), std::string::npos) << message;
  }
}

TEST(CudaDeviceTest, AutoTakesTheGpuAndSaysSo) {
  const ChosenDevice chosen = choose_device("auto");
  EXPECT_EQ(chosen.device, (Device{DeviceKind::cuda, 0}));
  EXPECT_EQ(chosen.reason, "cuda:0 (emulated, 16 GiB): 1 GPU found");
  EXPECT_EQ(choose_device("cpu").device, Device{});
  EXPECT_EQ(choose_device("cuda:0").device, chosen.device);
  EXPECT_THROW(choose_device("cuda:1"), Error);  // this process computes on another already
  EXPECT_THROW(choose_device("gpu"), Error);
}

}  // namespace
}  // namespace echo
