#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "tests/emulation/emulator.h"

// The meaning of kernels/cuda_warpgroup.cuh, on fibers: products happen when they are waited for. They are exact, sums in f32 in the
// order of k.
namespace echo::kernels::cuda {

template <class... Arrays>
void start_products(Arrays&...) {}
inline void commit_products() { cuda_emulation::commit(cuda_emulation::Channel::products); }
template <int kInFlight, class... Arrays>
void wait_products(Arrays&...) {
  cuda_emulation::wait_deferred(cuda_emulation::Channel::products, kInFlight);
}
template <int kCount>
void release_registers() {}
template <int kCount>
void claim_registers() {}

inline uint64_t shared_operand(const void* address, uint32_t panel_bytes = 16) {
  const auto at = uint64_t(static_cast<const std::byte*>(address) - cuda_emulation::dynamic_shared_memory());
  if (at % 16 != 0 || at >= 1 << 18)
    cuda_emulation::refuse("a product's operand that is not in shared memory, aligned to 16 bytes");
  return uint64_t(1) << 62 | uint64_t(1024 >> 4) << 32 | uint64_t(panel_bytes >> 4) << 16 | at >> 4;
}

// Entry (row, k) of an operand, row counting rows of a or columns of b.
inline float operand_entry(uint64_t operand, bool across, int row, int k) {
  const auto field = [&](int bit) { return uint32_t(operand >> bit & 0x3fff) << 4; };
  uint32_t at = field(0);
  if (across)
    at += uint32_t(row) / 64 * field(16) + uint32_t(row) % 64 * 2 + uint32_t(k) / 8 * field(32) + uint32_t(k) % 8 * 128;
  else
    at += uint32_t(row) / 8 * field(32) + uint32_t(row) % 8 * 128 + uint32_t(k) * 2;
  at ^= (at >> 7 & 7) << 4;
  uint16_t bits;
  std::memcpy(&bits, cuda_emulation::dynamic_shared_memory() + at, sizeof bits);
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

// This lane's rows of a, the two of its quarter of a warp's 16.
struct LeftRows {
  float entries[2][16];
};

template <int M>
void multiply_any(float (*d)[4], const LeftRows& left, uint64_t b, bool transpose_b, bool accumulate) {
  const int member = cuda_emulation::lane() % 4;
  for (int n = 0; n < M; ++n)
    for (int column = 0; column < 2; ++column) {
      float right[16];
      for (int k = 0; k < 16; ++k) right[k] = operand_entry(b, transpose_b, 8 * n + 2 * member + column, k);
      for (int row = 0; row < 2; ++row) {
        float sum = accumulate ? d[n][2 * row + column] : 0.0f;
        for (int k = 0; k < 16; ++k) sum += left.entries[row][k] * right[k];
        d[n][2 * row + column] = sum;
      }
    }
}

template <bool kTransposeA, bool kTransposeB, int M>
void multiply_shared(float (&d)[M][4], uint64_t a, uint64_t b, bool accumulate) {
  cuda_emulation::defer(cuda_emulation::Channel::products, [to = &d[0], a, b, accumulate] {
    const int first_row = cuda_emulation::thread_number() / 32 % 4 * 16 + cuda_emulation::lane() / 4;
    LeftRows left;
    for (int row = 0; row < 2; ++row)
      for (int k = 0; k < 16; ++k) left.entries[row][k] = operand_entry(a, kTransposeA, first_row + 8 * row, k);
    multiply_any<M>(to, left, b, kTransposeB, accumulate);
  });
}

template <int M>
void multiply_registers(float (&d)[M][4], const uint32_t (&a)[4], uint64_t b) {
  cuda_emulation::defer(cuda_emulation::Channel::products, [to = &d[0], from = &a[0], b] {
    const auto* slots = cuda_emulation::exchange(0xffffffffu, from, 4 * sizeof *from);
    LeftRows left;
    for (int member = 0; member < 4; ++member) {
      uint32_t words[4];
      std::memcpy(words, slots + size_t(cuda_emulation::lane() / 4 * 4 + member) * cuda_emulation::kExchangeBytes,
                  sizeof words);
      for (int word = 0; word < 4; ++word)
        for (int half = 0; half < 2; ++half)
          left.entries[word % 2][word / 2 * 8 + 2 * member + half] =
              std::bit_cast<float>(half == 0 ? words[word] << 16 : words[word] & 0xffff0000u);
    }
    multiply_any<M>(to, left, b, true, true);
  });
}

}  // namespace echo::kernels::cuda
