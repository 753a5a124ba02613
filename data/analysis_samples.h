#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace echo {

// Rows for the analysis of a teacher: the documents of `path` (file, folder, pattern) in file order, each with the begin token
// first; those of at least `sequence_length` tokens (begin token counted) are kept and cut there, no padding, no packing; the
// first `samples` of them, or fewer when there are no more.
//   set_names, max_bad_fraction: as in data_settings.h
// Throws Error: bad_data when no document is long enough (says how many were read and the longest), or as CorpusSource does;
// input_missing when there is no data; config when the tokenizer has no begin token.
std::vector<std::vector<int32_t>> analysis_samples(const std::string& path, const Tokenizer& tokenizer, int64_t samples,
                                                   int64_t sequence_length, const std::vector<std::string>& set_names = {},
                                                   double max_bad_fraction = 0.01);

}  // namespace echo
