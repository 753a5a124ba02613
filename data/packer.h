#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "data/corpus_source.h"
#include "data/data_settings.h"
#include "data/pending_tokens.h"
#include "tokenizer/tokenizer.h"

namespace echo {

// True when the selection of held-out documents by hash takes this text: a share `fraction` of all texts, always the same ones.
bool is_held_out(const std::string& text, double fraction);

// The tokens of a document in the stream: [begin] text end. Empty when the text has no tokens.
std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const std::string& text, bool bos_per_document);

// The order of `count` files in an epoch: a permutation that depends only on (seed, epoch).
std::vector<int64_t> file_order(int64_t count, uint64_t seed, int64_t epoch);

// Cuts all documents, epoch after epoch, into rows. Row n has the tokens nT to nT+T-1 of the stream as inputs, and nT+1 to nT+T
// as labels. So every token except the very first is predicted exactly once, and none is dropped.
// This packer returns the rows of its rank (DataSettings): n = rank + k * world for k = 0, 1, ... Each rank reads and tokenizes
// all documents, because only their tokens determine where a row begins.
// A packer started from a row's `next` continues with the following rows. `next` of row k is the same on each rank: the
// beginning of row (k + 1) * world. So ranks that have taken equally many rows can be resumed from the cursor of any of them,
// also with another number of ranks.
class TrainingPacker {
 public:
  // name: the name of the data in errors. files: sorted (find_data_files). held_out_fraction: documents skipped by is_held_out.
  // Throws Error: config when the tokenizer has no end token (or no begin token when one is required), bad_data when `start`
  // belongs to other files or is not in them, and the errors of reading up to `start`.
  TrainingPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double held_out_fraction,
                 Tokenizer tokenizer, const DataCursor& start);

  // Throws Error (bad_data) when a whole epoch has no document or too many records are bad, and the errors of reading. Returns
  // false when `stop` was requested; it must not be called again then.
  bool next(Row& row, const std::stop_token& stop = {});

  const DataSettings& settings() const { return settings_; }

 private:
  void begin_epoch(int64_t epoch);
  void begin_within_document(const DataCursor& start);
  void read_document();  // adds one document to pending_, skips one, or begins the next epoch

  DataSettings settings_;
  std::string name_;
  std::vector<DataFile> files_;
  double held_out_fraction_;
  Tokenizer tokenizer_;
  uint64_t fingerprint_;

  int64_t epoch_ = 0;
  std::unique_ptr<CorpusSource> source_;
  bool epoch_read_from_start_ = true;
  int64_t documents_in_epoch_ = 0;
  PendingTokens pending_;
};

// Cuts held-out documents in the same way, but reads them only once. The last row is filled up with end tokens whose labels are
// kIgnoredLabel.
class HeldOutPacker {
 public:
  // keep_fraction: 1 takes every document, a smaller value those of is_held_out. Throws Error (config) as TrainingPacker does.
  HeldOutPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double keep_fraction,
                Tokenizer tokenizer);
  // Returns false at the end. Throws Error (bad_data) when too many records are bad, and the errors of reading (input_missing
  // when a file cannot be opened, io, bad_data when compressed data is damaged).
  bool next(Row& row);
  SkipCounts counts() const { return source_.counts(); }  // of the records read so far

 private:
  DataSettings settings_;
  double keep_fraction_;
  Tokenizer tokenizer_;
  CorpusSource source_;
  PendingTokens pending_;
};

}  // namespace echo
