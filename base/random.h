#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace echo {

// Counter-based random numbers: Philox 4x32-10. A value depends only on (seed, stream, index). So any position of any sequence
// can be computed directly, on any number of threads and after a resume.
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
class Philox {
 public:
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // Four independent 32-bit words for position `index`.
  std::array<uint32_t, 4> words(uint64_t index) const {
    std::array<uint32_t, 4> c = {uint32_t(index), uint32_t(index >> 32), uint32_t(stream_), uint32_t(stream_ >> 32)};
    uint32_t key0 = uint32_t(seed_), key1 = uint32_t(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
      c = {uint32_t(p1 >> 32) ^ c[1] ^ key0, uint32_t(p1), uint32_t(p0 >> 32) ^ c[3] ^ key1, uint32_t(p0)};
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    return c;
  }

  uint64_t bits(uint64_t index) const {
    const auto w = words(index);
    return (uint64_t{w[1]} << 32) | w[0];
  }

  // Uniform in [0, 1), 53 bits.
  double uniform(uint64_t index) const { return double(bits(index) >> 11) * 0x1.0p-53; }

  // Uniform integer in [0, bound). The multiplication adds a bias below bound / 2^64.
  uint64_t below(uint64_t index, uint64_t bound) const {
    __extension__ using Wide = unsigned __int128;
    return uint64_t((static_cast<Wide>(bits(index)) * bound) >> 64);
  }

  // Standard normal by Box-Muller.
  double normal(uint64_t index) const {
    const auto w = words(index);
    const double u1 = (double((uint64_t{w[1]} << 32 | w[0]) >> 11) + 0.5) * 0x1.0p-53;
    const double u2 = double((uint64_t{w[3]} << 32 | w[2]) >> 11) * 0x1.0p-53;
    return std::sqrt(-2.0 * std::log(u1)) * std::cos(2.0 * std::numbers::pi * u2);
  }

 private:
  uint64_t seed_, stream_;
};

// The same numbers in order, one per call. `position` is the whole state.
class RandomSequence {
 public:
  explicit RandomSequence(uint64_t seed, uint64_t stream = 0, uint64_t position = 0)
      : philox_(seed, stream), position_(position) {}
  double uniform() { return philox_.uniform(position_++); }
  double normal() { return philox_.normal(position_++); }
  uint64_t below(uint64_t bound) { return philox_.below(position_++, bound); }
  uint64_t position() const { return position_; }

 private:
  Philox philox_;
  uint64_t position_;
};

}  // namespace echo
