// Runs every test and ends with one line: N passed, N failed, N skipped.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "tensor/cuda_device.h"
#include "tensor/device.h"

namespace {

// Suites with Cuda in their name need a GPU, or the emulated device that run_emulated_tests is linked with.
void leave_out_cuda_without_a_gpu() {
  std::string reason = "this build is without CUDA";
  if constexpr (echo::kWithCuda) {
    const echo::cuda::DeviceCount devices = echo::cuda::device_count();
    if (devices.count > 0) return;
    reason = devices.reason;
  }
  std::printf("%s: Cuda* suites are left to the emulated device\n", reason.c_str());
  std::string& filter = testing::GTEST_FLAG(filter);
  filter += filter.find('-') == std::string::npos ? "-*Cuda*" : ":*Cuda*";
}

class ReasonsOfSkips : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.skipped()) std::printf("skipped: %s\n", result.message());
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  leave_out_cuda_without_a_gpu();
  testing::UnitTest::GetInstance()->listeners().Append(new ReasonsOfSkips);  // owned by GoogleTest
  const int status = RUN_ALL_TESTS();
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  std::printf("%d passed, %d failed, %d skipped\n", all.successful_test_count(), all.failed_test_count(),
              all.skipped_test_count());
  return status != 0 || all.successful_test_count() == 0 ? 1 : 0;
}
