#pragma once

#include <vector>

#include "kernels/rope.h"

namespace echo {

// Keys and values of earlier positions, layer by layer, for generation. A follower caches only values, because it uses the
// leader's probabilities. Sequences may have different lengths. The kernels of a step read the lengths on the device, so that
// the host need not wait, and a recorded step can run again.
struct KvCache {
  struct Layer {
    Tensor k;  // (B, capacity, Hkv, Dh) rotated; undefined for a follower
    Tensor v;  // (B, capacity, Hkv, Dh)
  };
  std::vector<Layer> layers;
  kernels::RopeTable rope;  // angles of all positions; fixed addresses, for recorded steps
  Tensor lengths;           // (B) i32, on the device of the layers: number of filled positions per sequence
  int64_t longest = 0;      // the largest length, as counted on the host
  int64_t capacity = 0;

  // Sets the lengths after a pass over prompts. Prompts of different lengths are padded at their ends, and later positions
  // overwrite the padding. Throws Error when a length is not in 0 to capacity.
  void set_lengths(const std::vector<int32_t>& filled);
  // Throws Error, which begins with `operation`, unless the cache is empty and takes `positions` of `batch` sequences.
  void check_takes_prompts(const char* operation, int64_t batch, int64_t positions) const;
  // The host's part of a step: counts one more position. Throws Error when the cache is full.
  void count_position();

  int64_t bytes() const;  // bytes of keys and values
};

}  // namespace echo
