#include "data/shuffle.h"

#include <algorithm>
#include <numeric>

namespace echo {
namespace {

// Streams of random numbers; no other use of the seed has these. The low bits are the epoch or the block.
constexpr uint64_t kFileOrderStream = 0x66696C6573000000;
constexpr uint64_t kInterleavingStream = 0x6D69786564000000;
constexpr uint64_t kSetStream = 0x7365740000000000;
constexpr uint64_t kBlockStream = 0x626C6F0000000000;

constexpr int64_t kOpenFiles = 8;
constexpr int64_t kFilesAhead = 4;

}  // namespace

std::vector<int64_t> file_order(int64_t count, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  RandomSequence random(seed, kFileOrderStream + uint64_t(epoch));
  shuffle(std::span(order), random);
  return order;
}

Interleaving interleaving(const DataSettings& settings, int64_t epoch) {
  if (settings.shuffle_tokens == 0) return {.files_ahead = kFilesAhead};
  return {kOpenFiles, kFilesAhead, settings.seed, kInterleavingStream + uint64_t(epoch)};
}

int64_t block_rows(const DataSettings& settings) {
  return std::max<int64_t>(1, settings.shuffle_tokens / settings.sequence_length);
}

Philox set_random(const DataSettings& settings, int64_t epoch) { return Philox(settings.seed, kSetStream + uint64_t(epoch)); }

RandomSequence block_random(const DataSettings& settings, int64_t block) {
  return RandomSequence(settings.seed, kBlockStream + uint64_t(block));
}

}  // namespace echo
