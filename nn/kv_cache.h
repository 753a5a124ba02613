#pragma once

#include <vector>

#include "kernels/rope.h"

namespace echo {

// Keys and values of the positions seen so far, layer by layer, for generation. A follower caches values only: it reads the
// leader's probabilities of the step. Sequences may have different lengths; a step's kernels read them where they compute, so
// that the host need not wait for the device, and a recorded step can run again.
struct KvCache {
  struct Layer {
    Tensor k;  // (B, capacity, Hkv, Dh) rotated; undefined for a follower
    Tensor v;  // (B, capacity, Hkv, Dh)
  };
  std::vector<Layer> layers;
  kernels::RopeTable rope;  // angles of its positions: a step that was recorded finds them where they were
  Tensor lengths;           // (B) i32, where the layers are: positions filled, by sequence
  int64_t longest = 0;      // of the lengths, as the host knows it
  int64_t capacity = 0;

  // What a pass over prompts filled. Prompts of different lengths are padded at their ends: later positions overwrite the
  // padding.
  // Throws Error when a length is not from 0 to capacity.
  void set_lengths(const std::vector<int32_t>& filled);
  // Throws Error, which begins with `operation`, unless the cache is empty and takes `positions` of `batch` sequences.
  void check_takes_prompts(const char* operation, int64_t batch, int64_t positions) const;
  // The host's part of a step: counts its position; throws Error when there is no room for it.
  void count_position();

  int64_t bytes() const;  // of keys and values
};

}  // namespace echo
