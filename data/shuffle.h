#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "data/corpus_source.h"
#include "data/data_settings.h"

namespace echo {

// The order of the training data depends on the seed, the epoch and the list of files alone. These steps make it:
//   file_order      permutes the files of an epoch
//   CorpusSource    reads several files at the same time, as `interleaving` says
//   TrainingPacker  permutes the documents of a block of rows, and then the rows
// Without shuffling only the first is done.

// The order of `count` files in an epoch: a permutation that depends on (seed, epoch) alone.
std::vector<int64_t> file_order(int64_t count, uint64_t seed, int64_t epoch);

// How the files of an epoch are read beside each other.
Interleaving interleaving(const DataSettings& settings, int64_t epoch);

// Rows of a block: shuffle_tokens / T, at least one. One without shuffling.
int64_t block_rows(const DataSettings& settings);

// Random numbers that choose which documents of sets with a lower weight are taken; the index is the number of the document in
// the epoch (CorpusPosition::draws).
Philox set_random(const DataSettings& settings, int64_t epoch);

// Random numbers for the permutations within a block: they depend on (seed, block) alone.
RandomSequence block_random(const DataSettings& settings, int64_t block);

// Fisher and Yates' shuffle. Source: Durstenfeld 1964, Algorithm 235.
template <class T>
void shuffle(std::span<T> values, RandomSequence& random) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

}  // namespace echo
