#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "tests/emulation/emulator.h"

// The meaning of kernels/cuda/warpgroup.cuh with fibers: products happen when a thread waits for them. They are exact, with f32
// sums in the order of k.
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

// An operand's entries, row counting rows of a or columns of b.
template <bool kAcross>
class SharedOperand {
 public:
  explicit SharedOperand(uint64_t operand)
      : memory_(cuda_emulation::dynamic_shared_memory()),
        start_(field(operand, 0)),
        leading_(field(operand, 16)),
        stride_(field(operand, 32)) {}
  float operator()(uint32_t row, uint32_t k) const {
    uint32_t at = start_ + (kAcross ? row / 64 * leading_ + row % 64 * 2 + k / 8 * stride_ + k % 8 * 128
                                    : row / 8 * stride_ + row % 8 * 128 + k * 2);
    at ^= (at >> 7 & 7) << 4;
    uint16_t bits;
    std::memcpy(&bits, memory_ + at, sizeof bits);
    return std::bit_cast<float>(uint32_t(bits) << 16);
  }

 private:
  static uint32_t field(uint64_t operand, int bit) { return uint32_t(operand >> bit & 0x3fff) << 4; }

  const std::byte* memory_;
  uint32_t start_, leading_, stride_;
};

// This lane's rows of a, the two of its quarter of a warp's 16.
struct LeftRows {
  float entries[2][16];
};

template <int M, bool kTransposeB>
void multiply_any(float (*d)[4], const LeftRows& left, uint64_t b, bool accumulate) {
  const SharedOperand<kTransposeB> right(b);
  const int member = cuda_emulation::lane() % 4;
  for (int n = 0; n < M; ++n)
    for (int column = 0; column < 2; ++column) {
      float sums[2] = {};
      for (int row = 0; row < 2 && accumulate; ++row) sums[row] = d[n][2 * row + column];
      for (int k = 0; k < 16; ++k) {
        const float entry = right(uint32_t(8 * n + 2 * member + column), uint32_t(k));
        for (int row = 0; row < 2; ++row) sums[row] += left.entries[row][k] * entry;
      }
      for (int row = 0; row < 2; ++row) d[n][2 * row + column] = sums[row];
    }
}

template <bool kTransposeA, bool kTransposeB, int M>
void multiply_shared(float (&d)[M][4], uint64_t a, uint64_t b, bool accumulate) {
  cuda_emulation::defer(cuda_emulation::Channel::products, [to = &d[0], a, b, accumulate] {
    const int first_row = cuda_emulation::thread_number() / 32 % 4 * 16 + cuda_emulation::lane() / 4;
    const SharedOperand<kTransposeA> rows(a);
    LeftRows left;
    for (int row = 0; row < 2; ++row)
      for (int k = 0; k < 16; ++k) left.entries[row][k] = rows(uint32_t(first_row + 8 * row), uint32_t(k));
    multiply_any<M, kTransposeB>(to, left, b, accumulate);
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
    multiply_any<M, true>(to, left, b, true);
  });
}

}  // namespace echo::kernels::cuda
