// The emulated device detects the mistakes that it is made for.
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/matrix.cuh"
#include "tensor/cuda_memory.h"
#include "tests/test_support.h"

namespace echo::kernels::cuda {
namespace {

struct DeviceFloats {
  explicit DeviceFloats(const std::vector<float>& values)
      : tensor(Tensor::from(values).to(Device{DeviceKind::cuda, 0})), data(tensor.data<float>()) {}
  std::vector<float> values() const { return tensor.to_vector<float>(); }
  Tensor tensor;
  float* data;
};

template <class Run>
std::vector<float> in_order(const char* order, DeviceFloats& result, const Run& run) {
  const ScopedEnvironment thread_order("CUDA_EMULATION_ORDER", order);
  run();
  return result.values();
}

__global__ void shift(float* out, const float* in, bool with_barrier) {
  float* shared = shared_memory<float>();
  shared[threadIdx.x] = in[threadIdx.x];
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

TEST(CudaEmulationTest, AMissingBarrierChangesResultsWithTheOrder) {
  std::vector<float> numbers(64);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = float(i);
  const DeviceFloats in(numbers);
  DeviceFloats out(numbers);
  const auto run = [&](bool with_barrier) {
    return [&, with_barrier] { launch(shift, 1, 64, 64 * sizeof(float), stream(), out.data, in.data, with_barrier); };
  };
  const std::vector<float> good = in_order("forward", out, run(true));
  EXPECT_EQ(good[0], 1.0f);
  EXPECT_EQ(good[63], 0.0f);
  EXPECT_EQ(good, in_order("reverse", out, run(true)));
  EXPECT_EQ(good, in_order("random:3", out, run(true)));
  // Shared memory starts as NaN, which is not equal to itself, so both orders read values that were not written yet.
  EXPECT_NE(good, in_order("forward", out, run(false)));
  EXPECT_NE(good, in_order("reverse", out, run(false)));
}

__global__ void half_waits() {
  if (threadIdx.x < 32) wait_barrier(1, 64);
}

TEST(CudaEmulationTest, ThreadsThatWaitForEverAreAnError) {
  EXPECT_THROW(launch(half_waits, 1, 64, 0, stream()), std::runtime_error);
}

__global__ void leave_early(float* out) {
  if (threadIdx.x == 3) return;
  out[threadIdx.x] = warp_sum(1.0f);
}

TEST(CudaEmulationTest, AnExchangeWithALaneThatHasLeftIsAnError) {
  DeviceFloats out(std::vector<float>(32));
  EXPECT_THROW(launch(leave_early, 1, 32, 0, stream(), out.data), std::runtime_error);
}

TEST(CudaEmulationTest, HostMemoryIsNotAKernelsArgument) {
  std::vector<float> host(32);
  EXPECT_THROW(launch(leave_early, 1, 32, 0, stream(), host.data()), std::runtime_error);
}

TEST(CudaEmulationDeathTest, TheHostCannotReadDeviceMemory) {
  DeviceFloats out(std::vector<float>(32));
  EXPECT_DEATH(
      {
        volatile float value = out.data[0];
        (void)value;
      },
      "");
}

__global__ void copy_through(float* out, const float* in, bool wait) {
  float* shared = shared_memory<float>();
  copy_async(shared + 4 * threadIdx.x, in + 4 * threadIdx.x, threadIdx.x % 2 == 0);
  commit_copies();
  if (wait) wait_copies<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = shared[4 * threadIdx.x + i];
}

TEST(CudaEmulationTest, ACopyThatIsNotWaitedForIsNotThere) {
  const DeviceFloats in(std::vector<float>(128, 5.0f));
  DeviceFloats out(std::vector<float>(128, 1.0f));
  launch(copy_through, 1, 32, 512, stream(), out.data, in.data, true);
  EXPECT_EQ(out.values()[0], 5.0f);
  EXPECT_EQ(out.values()[4], 0.0f);  // not wanted: zeros
  launch(copy_through, 1, 32, 512, stream(), out.data, in.data, false);
  EXPECT_NE(out.values()[0], 5.0f);
}

// c = a b for a (16 x 16) and b (16 x 8, given as its transpose), through the fragments that ldmatrix makes.
__global__ void multiply_tile(float* out, const float* a, const float* b_transposed) {
  bfloat16* a_tile = shared_memory<bfloat16>();
  bfloat16* b_tile = a_tile + 256;
  for (int i = int(threadIdx.x); i < 256; i += kWarp) a_tile[i] = from_float<bfloat16>(a[i]);
  for (int i = int(threadIdx.x); i < 128; i += kWarp) b_tile[i] = from_float<bfloat16>(b_transposed[i]);
  __syncthreads();
  const int lane = int(threadIdx.x);
  uint32_t a_parts[4], b_parts[4];
  load_matrices(a_parts, a_tile + (lane % 16) * 16 + lane / 16 * 8);
  load_matrices(b_parts, b_tile + (lane % 8) * 16 + lane / 8 % 2 * 8);
  float c[4] = {};
  const uint32_t b_words[2] = {b_parts[0], b_parts[1]};
  multiply_bf16(c, a_parts, b_words);
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}

TEST(CudaEmulationTest, MatrixFragmentsMultiplyLikeMatrices) {
  std::vector<float> a(256), b_transposed(128);
  for (size_t i = 0; i < a.size(); ++i) a[i] = float(int(i * 7 % 13) - 6);
  for (size_t i = 0; i < b_transposed.size(); ++i) b_transposed[i] = float(int(i * 5 % 11) - 5);
  const DeviceFloats a_device(a), b_device(b_transposed);
  DeviceFloats out(std::vector<float>(128));
  launch(multiply_tile, 1, kWarp, 1024, stream(), out.data, a_device.data, b_device.data);
  const std::vector<float> c = out.values();
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 8; ++column) {
      float expected = 0;  // small whole numbers: exact
      for (size_t k = 0; k < 16; ++k) expected += a[row * 16 + k] * b_transposed[column * 16 + k];
      EXPECT_EQ(c[row * 8 + column], expected) << row << ", " << column;
    }
}

}  // namespace
}  // namespace echo::kernels::cuda
