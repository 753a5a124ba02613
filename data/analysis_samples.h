#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/path_list.h"
#include "tokenizer/tokenizer.h"

namespace echo {

class RemoteData;

// Rows for the analysis of a teacher. Each row comes from one document of `path` (find_data_files), in file order. It
// has the begin token and the document's first tokens, `sequence_length` tokens in total. Shorter documents are skipped.
// Nothing is padded or packed. Returns the first `samples` rows, or fewer when there are not enough documents.
//   remote: the entries of `path` on other machines
//   set_names, max_bad_fraction: as in data_settings.h
// Throws Error: bad_data when no document is long enough (the message says how many were read and the length of the longest),
// or as CorpusSource does; input_missing when there is no data; usage when `samples` or `sequence_length` is below 1; config
// when the tokenizer has no begin token.
std::vector<std::vector<int32_t>> analysis_samples(const PathList& path, const Tokenizer& tokenizer, int64_t samples,
                                                   int64_t sequence_length, const RemoteData* remote = nullptr,
                                                   const std::vector<std::string>& set_names = {},
                                                   double max_bad_fraction = 0.01);

}  // namespace echo
