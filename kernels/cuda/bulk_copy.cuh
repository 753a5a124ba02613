#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <array>
#include <cstdint>

#include "tensor/bfloat16.h"

// Hopper's copy engine (TMA), and the barriers in shared memory that count its bytes (mbarrier). They are wrapped in functions
// that also have a meaning for a host compiler (tests/emulation). One thread starts the load of a tile, which arrives in shared
// memory while other threads compute.
// A barrier goes through phases 0, 1, 2, ... A phase ends when `arrivals` threads have arrived and the bytes that they
// announced have been transferred. A wait names the parity of the phase. Waiting for parity 1 of a new barrier returns at once.
// Source: PTX ISA 9.0, sections on mbarrier, cp.async.bulk, cp.async.bulk.tensor, cp.reduce.async.bulk.
namespace echo::kernels::cuda {

// The tensor map of a bf16 tensor with four dimensions. copy_tile_async() loads tiles of 64 entries of the first dimension by
// `rows` (at most 256) of the third. Sizes and strides (in elements) start with the innermost dimension, whose stride is 1. The
// address and all other strides are multiples of 16 bytes. Elements outside the tensor are loaded as zeros.
CUtensorMap tile_map(bfloat16* data, const std::array<int64_t, 4>& sizes, const std::array<int64_t, 3>& strides, int rows);

}  // namespace echo::kernels::cuda

#if defined(__CUDACC__)

namespace echo::kernels::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* address) { return uint32_t(__cvta_generic_to_shared(address)); }

__device__ __forceinline__ void start_barrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Call it after the last start_barrier(), and before the __syncthreads() after which other threads use the barriers.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void arrive_expecting(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait_phase(uint64_t* barrier, int parity) {
  uint32_t done;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
  } while (done == 0);
}

// Starts the load of the tile at these coordinates, to an address aligned to 1024 bytes. The tile has rows of 128 bytes. The
// 16-byte chunk c of row r is stored at chunk c ^ (r % 8). `map` must be in a `const __grid_constant__` parameter of the
// kernel.
__device__ __forceinline__ void copy_tile_async(void* tile, const CUtensorMap& map, uint64_t* barrier, int c0, int c1, int c2,
                                                int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::
          "r"(shared_address(tile)),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// Makes this thread's earlier writes to shared memory visible to the copy engine and to warpgroup products. Call it before the
// barrier after which another thread starts them.
__device__ __forceinline__ void publish_shared_writes() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Starts a copy of `bytes` (a multiple of 16) of f32 from shared to global memory, both aligned to 16 bytes. store_async()
// overwrites, add_async() adds. commit_stores() closes a group of the thread's copies. wait_stores<N>() waits until at most N
// groups still read shared memory. wait_all_stores() waits until all have been written.
__device__ __forceinline__ void store_async(float* global, const float* shared, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(global)),
               "r"(shared_address(shared)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void add_async(float* global, const float* shared, int bytes) {
  asm volatile(
      "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(global)),
      "r"(shared_address(shared)), "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kReading>
__device__ __forceinline__ void wait_stores() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kReading) : "memory");
}
__device__ __forceinline__ void wait_all_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace echo::kernels::cuda

#else
#include <cuda_bulk_copy_emulation.h>
#endif
