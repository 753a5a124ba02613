// What a user reads when a GPU cannot be used, and how a failing device affects a run.
#include "tensor/cuda_error.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/attention/attention.h"
#include "tensor/cuda_context.h"
#include "tensor/device_choice.h"
#include "tensor/tensor.h"
#include "tests/test_support.h"

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
  for (const auto& [status, remedy] :
       {std::pair(cudaErrorInsufficientDriver, "driver is too old"), std::pair(cudaErrorNoKernelImageForDevice, "make SM=90"),
        std::pair(cudaErrorInvalidDeviceFunction, "no code for this GPU"),
        std::pair(cudaErrorUnsupportedPtxVersion, "no code for this GPU"),
        std::pair(cudaErrorDevicesUnavailable, "another process has the GPU"),
        std::pair(cudaErrorMemoryAllocation, "nvidia-smi")}) {
    const std::string message = message_of(status);
    EXPECT_EQ(message.find("launch of a kernel: "), 0u) << message;
    expect_contains(message, remedy);
  }
}

TEST(CudaErrorTest, AKernelThatDoesNotStartIsNamedAsInTheSource) {
  const auto message = [](const char* name) {
    return error_message(ExitCode::device,
                         [&] { cuda::check_launch(cudaErrorInvalidValue, name, dim3(4, 2), dim3(128), 512); });
  };
  EXPECT_EQ(message("_ZN4echo6kernelIfEEvPKfi")
                .find("launch of void echo::kernel<float>(float const*, int) (grid 4 x 2 x 1, block 128, 512 bytes of shared "
                      "memory): "),
            0u);
  EXPECT_EQ(message(nullptr).find("launch of a kernel (grid 4"), 0u);
  EXPECT_EQ(message("main").find("launch of main (grid 4"), 0u);
}

// Memory that the pool keeps is not available to calls that do not allocate from it.
TEST(CudaErrorTest, WhereThereIsNoMemoryOneMoreTryFollowsTheRelease) {
  int calls = 0;
  EXPECT_EQ(cuda::with_memory_released([&] { return ++calls == 1 ? cudaErrorMemoryAllocation : cudaSuccess; }), cudaSuccess);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(cuda::with_memory_released([&] { return ++calls, cudaErrorMemoryAllocation; }), cudaErrorMemoryAllocation);
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(cuda::with_memory_released([&] { return ++calls, cudaErrorInvalidValue; }), cudaErrorInvalidValue);
  EXPECT_EQ(calls, 5);
}

TEST(CudaDeviceTest, WithoutAUsableGpuAutoTakesTheCpuAndSaysWhy) {
  const auto reason = [] {
    const ChosenDevice chosen = choose_device("auto");
    EXPECT_EQ(chosen.device, Device{});
    return chosen.reason;
  };
  {
    const ScopedEnvironment none("CUDA_EMULATION_COUNT", "100");
    EXPECT_EQ(reason(), "cpu: no GPU");
  }
  {
    const ScopedEnvironment old("CUDA_EMULATION_CAPABILITY", "75");
    EXPECT_EQ(reason(), "cpu: emulated has compute capability 7.5, this program needs 8.0 (Ampere) or newer");
  }
  const ScopedEnvironment failing("CUDA_EMULATION_COUNT", "35");
  {
    const ScopedEnvironment driver("CUDA_EMULATION_DRIVER", "0");
    EXPECT_EQ(reason(), "cpu: no NVIDIA driver");
  }
  const ScopedEnvironment driver("CUDA_EMULATION_DRIVER", "12040");
  EXPECT_EQ(reason(), "cpu: the NVIDIA driver supports CUDA 12.4, this program needs 13.0: update the driver");
}

// This process has already chosen its GPU, so the test runs in a process of its own.
TEST(CudaOldGpuDeathTest, AskedForByNumberItIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto ask = [] {
    const ScopedEnvironment old("CUDA_EMULATION_CAPABILITY", "75");
    try {
      (void)choose_device("cuda:0");
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::exit(int(error.code()));
    }
    std::exit(0);
  };
  EXPECT_EXIT(ask(), testing::ExitedWithCode(int(ExitCode::device)),
              "cuda:0: emulated has compute capability 7.5, this program needs 8.0 .Ampere. or newer; write device: cpu");
}

// Consumer GPUs have less shared memory. This test also runs in a process of its own.
TEST(CudaSmallGpuDeathTest, HeadsThatAreTooWideAreRefusedByTheirWidth) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto attend = [] {
    const ScopedEnvironment small("CUDA_EMULATION_SHARED", "99");
    const Device gpu{DeviceKind::cuda, 0};
    for (const int64_t width : {128, 160}) {
      const Tensor x = Tensor::zeros({1, 3, 1, width}, DType::f32, gpu);
      Tensor o = Tensor::zeros(x.shape(), DType::f32, gpu), lse = Tensor::zeros({1, 1, 3}, DType::f32, gpu);
      std::fprintf(stderr, "width %d: %s\n", int(width), error_message(ExitCode::internal, [&] {
                                                           kernels::attention_forward(o, lse, x, x, x, Tensor(), 1);
                                                           fail(ExitCode::internal, "done");
                                                         }).c_str());
    }
    std::exit(testing::Test::HasFailure() ? 1 : 0);
  };
  EXPECT_EXIT(attend(), testing::ExitedWithCode(0),
              "width 128: done\n.*width 160: .*heads of width 160 need 103936 bytes of shared memory, this GPU has 101376; "
              "write device: cpu");
}

TEST(CudaDeviceTest, AutoTakesTheGpuAndSaysSo) {
  const ChosenDevice chosen = choose_device("auto");
  EXPECT_EQ(chosen.device, (Device{DeviceKind::cuda, 0}));
  EXPECT_EQ(chosen.reason, "cuda:0 (emulated, 16 GiB): 1 GPU found");
  EXPECT_EQ(choose_device("cpu").device, Device{});
  EXPECT_EQ(choose_device("cuda:0").device, chosen.device);
  EXPECT_THROW(choose_device("cuda:1"), Error);  // this process already computes on another device
  EXPECT_THROW(choose_device("gpu"), Error);
}

}  // namespace
}  // namespace echo
