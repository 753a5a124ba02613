// The emulated device's copy engine, its barriers and its products of warpgroups: what they compute, and the mistakes that they
// detect.
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/warpgroup.cuh"

namespace echo::kernels::cuda {
namespace {

constexpr Device kDevice{DeviceKind::cuda, 0};
constexpr int kTileBytes = 64 * 128;

// Small whole numbers, which are exact in bf16, as are the sums of their products.
Tensor numbers(int64_t rows, int64_t columns, int step) {
  Tensor result = Tensor::empty({rows, columns}, DType::bf16);
  for (int64_t i = 0; i < rows * columns; ++i) result.data<bfloat16>()[i] = bfloat16(float(int(i * step % 13) - 6));
  return result;
}

CUtensorMap map_of(const Tensor& tensor, int rows) {
  return tile_map(tensor.data<bfloat16>(), {tensor.dim(1), 1, tensor.dim(0), 1}, {1, tensor.dim(1), 1}, rows);
}

enum class Mistake { none, no_wait_for_tiles, no_wait_for_products };

// c = a b^T, a^T b^T, a b or a^T b for a and b of 64 x 64, by one warpgroup; k = 64 in four products. a comes from shared
// memory.
template <bool kTransposeA, bool kTransposeB>
__global__ void multiply(float* c, const CUtensorMap a_map, const CUtensorMap b_map, Mistake mistake) {
  unsigned char* const tiles = shared_memory();
  auto* const barrier = reinterpret_cast<uint64_t*>(tiles + 2 * kTileBytes);
  if (threadIdx.x == 0) {
    start_barrier(barrier, 1);
    publish_barriers();
    arrive_expecting(barrier, 2 * kTileBytes);
    copy_tile_async(tiles, a_map, barrier, 0, 0, 0, 0);
    copy_tile_async(tiles + kTileBytes, b_map, barrier, 0, 0, 0, 0);
  }
  __syncthreads();
  if (mistake != Mistake::no_wait_for_tiles) wait_phase(barrier, 0);
  float sums[8][4] = {};
  start_products(sums);
  for (int k = 0; k < 4; ++k)
    multiply_shared<kTransposeA, kTransposeB>(sums, shared_operand(tiles) + k * (kTransposeA ? 2048 : 32) / 16,
                                              shared_operand(tiles + kTileBytes) + k * (kTransposeB ? 2048 : 32) / 16, k > 0);
  commit_products();
  if (mistake != Mistake::no_wait_for_products) wait_products<0>(sums);
  const int row = int(threadIdx.x) / 32 * 16 + int(threadIdx.x) % 32 / 4, column = int(threadIdx.x) % 4 * 2;
  for (int n = 0; n < 8; ++n)
    for (int i = 0; i < 4; ++i) c[(row + i / 2 * 8) * 64 + 8 * n + column + i % 2] = sums[n][i];
}

std::vector<float> product(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b,
                           Mistake mistake = Mistake::none) {
  const Tensor on_device[] = {a.to(kDevice), b.to(kDevice)};
  Tensor c = Tensor::zeros({64, 64}, DType::f32, kDevice);
  const auto kernel = transpose_a   ? transpose_b ? multiply<true, true> : multiply<true, false>
                        : transpose_b ? multiply<false, true>
                                    : multiply<false, false>;
  launch(kernel, 1, 128, 2 * kTileBytes + 8, stream(), c.data<float>(), map_of(on_device[0], 64), map_of(on_device[1], 64),
         mistake);
  return c.to_vector<float>();
}

TEST(CudaHopperEmulationTest, WarpgroupsMultiplyTilesLikeMatrices) {
  const Tensor a = numbers(64, 64, 7), b = numbers(64, 64, 5);
  const auto entry = [](const Tensor& m, int row, int column) { return float(m.data<bfloat16>()[row * 64 + column]); };
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      const std::vector<float> c = product(a, b, transpose_a, transpose_b);
      for (int row = 0; row < 64; ++row)
        for (int column = 0; column < 64; ++column) {
          float expected = 0;
          for (int k = 0; k < 64; ++k)
            expected +=
                (transpose_a ? entry(a, k, row) : entry(a, row, k)) * (transpose_b ? entry(b, k, column) : entry(b, column, k));
          ASSERT_EQ(c[size_t(row * 64 + column)], expected) << transpose_a << transpose_b << ": " << row << ", " << column;
        }
    }
}

TEST(CudaHopperEmulationTest, WhatIsNotWaitedForIsNotThere) {
  const Tensor a = numbers(64, 64, 7), b = numbers(64, 64, 5);
  const std::vector<float> right = product(a, b, false, false);
  EXPECT_NE(product(a, b, false, false, Mistake::no_wait_for_tiles), right);
  EXPECT_NE(product(a, b, false, false, Mistake::no_wait_for_products), right);
}

TEST(CudaHopperEmulationTest, BeyondATensorThereAreZeros) {
  const Tensor ones = numbers(64, 64, 0), small = numbers(40, 48, 3);  // ones: all -6
  const std::vector<float> c = product(small, ones, false, false);
  for (int row = 0; row < 64; ++row) {
    float expected = 0;
    for (int k = 0; row < 40 && k < 48; ++k) expected += -6 * float(small.data<bfloat16>()[row * 48 + k]);
    EXPECT_EQ(c[size_t(row) * 64], expected) << row;
  }
}

// Adds the block's 16 numbers twice to the existing ones, or replaces these first. The number in shared memory changes after
// the store.
__global__ void store(float* out, bool add, bool wait) {
  float* const shared = shared_memory<float>();
  for (int i = 0; i < 4; ++i) shared[i] = float(i);
  add ? add_async(out, shared, 16) : store_async(out, shared, 16);
  commit_stores();
  if (wait) wait_stores<0>();
  shared[0] = 100;
  add_async(out, shared, 16);
  commit_stores();
  wait_all_stores();
}

TEST(CudaHopperEmulationTest, BulkStoresReadWhatIsThereWhenTheyAreWaitedFor) {
  const auto stored = [](bool add, bool wait) {
    const Tensor out = Tensor::from(std::vector<float>(4, 1), {4}).to(kDevice);
    launch(store, 1, 1, 16, stream(), out.data<float>(), add, wait);
    return out.to_vector<float>();
  };
  EXPECT_EQ(stored(false, true), (std::vector<float>{100, 2, 4, 6}));
  EXPECT_EQ(stored(true, true), (std::vector<float>{101, 3, 5, 7}));
  EXPECT_EQ(stored(false, false), (std::vector<float>{200, 2, 4, 6}));
}

__global__ void arrive_twice() {
  auto* const barrier = shared_memory<uint64_t>();
  start_barrier(barrier, 1);
  arrive_expecting(barrier, 16);
  arrive(barrier);
}

TEST(CudaHopperEmulationTest, MoreArrivalsThanABarrierIsForAreAnError) {
  EXPECT_THROW(launch(arrive_twice, 1, 1, 8, stream()), std::runtime_error);
}

__global__ void wait_for_bytes() {
  auto* const barrier = shared_memory<uint64_t>();
  start_barrier(barrier, 1);
  arrive_expecting(barrier, 16);
  wait_phase(barrier, 0);
}

TEST(CudaHopperEmulationTest, BytesThatNeverComeAreAnError) {
  EXPECT_THROW(launch(wait_for_bytes, 1, 1, 8, stream()), std::runtime_error);
}

}  // namespace
}  // namespace echo::kernels::cuda
