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

void KvCache::check_takes_prompts(const char* operation, int64_t batch, int64_t positions) const {
  ECHO_CHECK(longest == 0, operation, ": the cache already holds ", longest, " positions, expected an empty cache");
  ECHO_CHECK(lengths.dim(0) == batch, operation, ": a cache of ", lengths.dim(0), " sequences for ids of ", batch);
  ECHO_CHECK(capacity >= positions, operation, ": a cache of ", capacity, " positions for prompts of ", positions);
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
