#include <gtest/gtest.h>

#include "tensor/allocator.h"
#include "tensor/device_choice.h"
#include "tensor/tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(DeviceTest, SettingsAreAutoCpuCudaOrCudaWithANumber) {
  for (const char* setting : {"auto", "cpu", "cuda", "cuda:0", "cuda:7"}) EXPECT_TRUE(is_device_setting(setting)) << setting;
  for (const char* setting : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999", "CPU"})
    EXPECT_FALSE(is_device_setting(setting)) << setting;
}

TEST(DeviceTest, TheCpuIsTakenWhenItIsAskedFor) {
  EXPECT_EQ(choose_device("cpu").device, Device{});
  EXPECT_NE(error_message(ExitCode::usage, [] { choose_device("tpu"); }).find("expected auto, cpu, cuda or cuda:N"),
            std::string::npos);
}

TEST(DeviceTest, MemoryOnAGpuThatIsNotThereIsRefused) {
  try {
    (void)Tensor::empty({2}, DType::f32, Device{DeviceKind::cuda, 1023});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("cuda:1023"), std::string::npos) << error.what();
  }
}

TEST(DeviceTest, WithoutAGpuEachOfSeveralProcessesComputesOnTheCpu) {
  if (choose_device("auto").device.is_cpu()) {
    EXPECT_EQ(choose_device("auto", {1, 2}).device, Device{});
  }
  EXPECT_EQ(choose_device("cpu", {1, 2}).device, Device{});
}

TEST(DeviceTest, TensorsMayTakeWhatIsFree) { EXPECT_GT(available_memory(Device{}), int64_t{100} << 20); }

}  // namespace
}  // namespace echo
