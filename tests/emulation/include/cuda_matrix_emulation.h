#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "tests/emulation/emulator.h"

// The meaning of the instructions of kernels/cuda/matrix.cuh with fibers. Products are exact, sums are f32 in the order of k.
namespace echo::kernels::cuda {

inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Operands {
    uint32_t a[4], b[2];
  } mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  const auto* slots = cuda_emulation::exchange(0xffffffffu, &mine, sizeof mine);
  const auto half = [](uint32_t word, int index) { return std::bit_cast<float>(index == 0 ? word << 16 : word & 0xffff0000u); };
  const auto operands = [&](int lane) {
    Operands result;
    std::memcpy(&result, slots + size_t(lane) * cuda_emulation::kExchangeBytes, sizeof result);
    return result;
  };
  const int lane = cuda_emulation::lane(), group = lane / 4, member = lane % 4;
  for (int quarter = 0; quarter < 4; ++quarter) {  // of k: the two columns 2 quarter + {0, 1}, and the same + 8
    const Operands of_row = operands(4 * group + quarter);
    for (int column = 0; column < 2; ++column) {
      const Operands of_column = operands(4 * (2 * member + column) + quarter);
      for (int row = 0; row < 2; ++row)
        for (int upper = 0; upper < 2; ++upper)
          for (int i = 0; i < 2; ++i) c[2 * row + column] += half(of_row.a[row + 2 * upper], i) * half(of_column.b[upper], i);
    }
  }
}

inline void load_matrices_any(uint32_t (&r)[4], const void* row, bool transposed) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) __builtin_trap();
  uint16_t mine[8];
  std::memcpy(mine, row, sizeof mine);
  const auto* slots = cuda_emulation::exchange(0xffffffffu, mine, sizeof mine);
  const int lane = cuda_emulation::lane(), group = lane / 4, member = lane % 4;
  const auto element = [&](int matrix, int matrix_row, int column) {
    uint16_t value;
    std::memcpy(&value, slots + size_t(8 * matrix + matrix_row) * cuda_emulation::kExchangeBytes + size_t(column) * 2,
                sizeof value);
    return uint32_t(value);
  };
  for (int matrix = 0; matrix < 4; ++matrix)
    r[matrix] = transposed ? element(matrix, 2 * member, group) | element(matrix, 2 * member + 1, group) << 16
                           : element(matrix, group, 2 * member) | element(matrix, group, 2 * member + 1) << 16;
}
inline void load_matrices(uint32_t (&r)[4], const void* row) { load_matrices_any(r, row, false); }
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) { load_matrices_any(r, row, true); }

inline void copy_async(void* shared, const void* global, bool wanted = true) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || (wanted && reinterpret_cast<uintptr_t>(global) % 16 != 0))
    cuda_emulation::refuse("cp.async: an address is not aligned to 16 bytes");
  cuda_emulation::defer(cuda_emulation::Channel::copies, [=] {
    if (wanted)
      std::memcpy(shared, global, 16);
    else
      std::memset(shared, 0, 16);
  });
}
inline void commit_copies() { cuda_emulation::commit(cuda_emulation::Channel::copies); }
template <int kInFlight>
void wait_copies() {
  cuda_emulation::wait_deferred(cuda_emulation::Channel::copies, kInFlight);
}
inline void wait_barrier(int id, int threads) { cuda_emulation::named_barrier(id, threads, true); }
inline void arrive_barrier(int id, int threads) { cuda_emulation::named_barrier(id, threads, false); }

}  // namespace echo::kernels::cuda
