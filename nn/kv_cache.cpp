#include "nn/kv_cache.h"

#include <algorithm>

namespace echo {

void KvCache::set_lengths(const std::vector<int32_t>& filled) {
  longest = 0;
  for (const int64_t length : filled) {
    ECHO_CHECK(length >= 0 && length <= capacity, "cache: length ", length, " in a cache of ", capacity, " positions");
    longest = std::max(longest, length);
  }
  lengths.copy_from(Tensor::from(filled));
}

void KvCache::count_position() {
  ECHO_CHECK(longest < capacity, "decode: the cache is full (", capacity, " positions)");
  ++longest;
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const Layer& layer : layers) total += (layer.k.defined() ? layer.k.bytes() : 0) + layer.v.bytes();
  return total;
}

}  // namespace echo
