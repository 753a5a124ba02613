#pragma once

#include <cstdint>
#include <cstring>

#include "tests/emulation/emulator.h"

// The meaning of kernels/cuda/bulk_copy.cuh with fibers: a tile arrives when the first thread waits for it, and a store happens
// when a thread waits for it.
namespace echo::kernels::cuda {

inline void start_barrier(uint64_t* barrier, int arrivals) { cuda_emulation::start_transfer_barrier(barrier, arrivals); }
inline void publish_barriers() {}
inline void publish_shared_writes() {}
inline void arrive(uint64_t* barrier) { cuda_emulation::arrive_at_transfer_barrier(barrier, 0); }
inline void arrive_expecting(uint64_t* barrier, int bytes) { cuda_emulation::arrive_at_transfer_barrier(barrier, bytes); }
inline void wait_phase(uint64_t* barrier, int parity) { cuda_emulation::wait_for_transfers(barrier, parity); }

inline void copy_tile_async(void* tile, const CUtensorMap& map, uint64_t* barrier, int c0, int c1, int c2, int c3) {
  auto* const to = static_cast<std::byte*>(tile);
  if ((to - cuda_emulation::dynamic_shared_memory()) % 1024 != 0)
    cuda_emulation::refuse("a tile's copy to an address that is not aligned to 1024 bytes");
  cuda_emulation::transfer(barrier, map.rows * 128, [=] {
    const auto inside = [&](int coordinate, int dimension) {
      return coordinate >= 0 && cuuint64_t(coordinate) < map.sizes[dimension];
    };
    for (int row = 0; row < int(map.rows); ++row)
      for (int column = 0; column < 64; ++column) {
        uint16_t element = 0;
        if (inside(c0 + column, 0) && inside(c1, 1) && inside(c2 + row, 2) && inside(c3, 3))
          std::memcpy(&element,
                      map.data + size_t(c0 + column) * 2 + size_t(c1) * map.strides[0] + size_t(c2 + row) * map.strides[1] +
                          size_t(c3) * map.strides[2],
                      sizeof element);
        std::memcpy(to + row * 128 + ((column / 8 ^ (row & 7)) << 4) + column % 8 * 2, &element, sizeof element);
      }
  });
}

inline void store_any(float* global, const float* shared, int bytes, bool adds) {
  if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0 || reinterpret_cast<uintptr_t>(shared) % 16 != 0)
    cuda_emulation::refuse("a bulk store whose addresses or size are not multiples of 16 bytes");
  cuda_emulation::defer(cuda_emulation::Channel::stores, [=] {
    for (int i = 0; i < bytes / 4; ++i) global[i] = adds ? global[i] + shared[i] : shared[i];
  });
}
inline void store_async(float* global, const float* shared, int bytes) { store_any(global, shared, bytes, false); }
inline void add_async(float* global, const float* shared, int bytes) { store_any(global, shared, bytes, true); }
inline void commit_stores() { cuda_emulation::commit(cuda_emulation::Channel::stores); }
template <int kReading>
void wait_stores() {
  cuda_emulation::wait_deferred(cuda_emulation::Channel::stores, kReading);
}
inline void wait_all_stores() { cuda_emulation::wait_deferred(cuda_emulation::Channel::stores, 0); }

}  // namespace echo::kernels::cuda
