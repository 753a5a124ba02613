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

// Whether held-out selection by hash takes this text: a share `fraction` of all texts, the same ones always.
bool is_held_out(const std::string& text, double fraction);

// The tokens of a document as they go into the stream: [begin] text end. Empty when the text has no tokens.
std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const std::string& text, bool bos_per_document);

// The order of `count` files in an epoch: a permutation that depends on (seed, epoch) alone.
std::vector<int64_t> file_order(int64_t count, uint64_t seed, int64_t epoch);

// Cuts all documents, epoch after epoch, into rows: row n holds tokens nT to nT+T-1 of the stream as inputs and nT+1 to nT+T as
// labels, so every token but the very first is predicted exactly once and none is dropped.
// Of these rows, this packer gives those of its rank (DataSettings): n = rank + k * world for k = 0, 1, ... Each rank reads and
// tokenizes all documents, since only their tokens tell where a row begins.
// A packer started from a row's `next` gives the rows that would have come. `next` of row k of each rank is the same: where row
// (k + 1) * world begins. So ranks that have taken equally many rows can be resumed from the cursor of any of them, also with
// another number of ranks.
class TrainingPacker {
 public:
  // name: what errors call the data. files: sorted (find_data_files). held_out_fraction: documents left out by is_held_out.
  // Throws Error: config when the tokenizer has no end token (or no begin token where one is asked for), bad_data when `start`
  // belongs to other files or is not in them; and what reading up to `start` throws.
  TrainingPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double held_out_fraction,
                 Tokenizer tokenizer, const DataCursor& start);

  // Throws Error (bad_data) when a whole epoch has no document or too many records are bad; and what reading throws.
  // Returns false when `stop` was requested meanwhile; call it no more then.
  bool next(Row& row, const std::stop_token& stop = {});

  const DataSettings& settings() const { return settings_; }

 private:
  void begin_epoch(int64_t epoch);
  void begin_within_document(const DataCursor& start);
  void read_document();  // adds one document to pending_, or passes one over, or begins the next epoch

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
  // keep_fraction: 1 takes every document, less takes those of is_held_out. Throws Error (config) as TrainingPacker does.
  HeldOutPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double keep_fraction,
                Tokenizer tokenizer);
  // Returns false at the end. Throws Error (bad_data) when too many records are bad; and what reading throws (input_missing
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
