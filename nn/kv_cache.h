#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace echo {

// Keys and values of the positions seen so far, layer by layer, for generation. A follower caches values only: it reads the
// leader's probabilities of the step.
struct KvCache {
  struct Layer {
    Tensor k;  // (B, capacity, Hkv, Dh) rotated; undefined for a follower
    Tensor v;  // (B, capacity, Hkv, Dh)
  };
  std::vector<Layer> layers;
  int64_t length = 0;    // positions filled
  int64_t capacity = 0;

  int64_t bytes() const {
    int64_t total = 0;
    for (const Layer& layer : layers) total += (layer.k.defined() ? layer.k.bytes() : 0) + layer.v.bytes();
    return total;
  }
};

}  // namespace echo
