#include "data/analysis_samples.h"

#include <algorithm>

#include "base/error.h"
#include "data/corpus_source.h"
#include "data/source_factory.h"

namespace echo {

std::vector<std::vector<int32_t>> analysis_samples(const PathList& path, const Tokenizer& tokenizer, int64_t samples,
                                                   int64_t sequence_length, const RemoteData* remote,
                                                   const std::vector<std::string>& set_names, double max_bad_fraction) {
  if (samples < 1 || sequence_length < 1)
    fail(ExitCode::usage, "analysis needs at least one sample of one token, not ", samples, " of ", sequence_length);
  if (tokenizer.bos_id() < 0)
    fail(ExitCode::config, "the tokenizer has no begin token, which analysis puts before each document");
  CorpusSource source(path.text(), find_data_files(path, remote), SetFilter(set_names), max_bad_fraction);
  std::vector<std::vector<int32_t>> rows;
  Document document;
  size_t longest = 0;
  while (int64_t(rows.size()) < samples && source.next(document)) {
    std::vector<int32_t> row = {tokenizer.bos_id()};
    const std::vector<int32_t> ids = tokenizer.encode(document.text);
    row.insert(row.end(), ids.begin(), ids.end());
    longest = std::max(longest, row.size());
    if (row.size() < size_t(sequence_length)) continue;
    row.resize(size_t(sequence_length));
    rows.push_back(std::move(row));
  }
  if (rows.empty() && source.counts().documents == 0)
    fail(ExitCode::bad_data, path.text(), ": no documents: ", source.counts().describe());
  if (rows.empty())
    fail(ExitCode::bad_data, path.text(), ": no document has ", sequence_length, " tokens: ", source.counts().documents,
         " were read, the longest has ", longest,
         " (begin token counted); choose a shorter sequence length or longer documents");
  return rows;
}

}  // namespace echo
