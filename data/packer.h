#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/random.h"
#include "data/corpus_source.h"
#include "data/data_settings.h"
#include "data/packed_tokens.h"
#include "data/token_stream.h"
#include "tokenizer/tokenizer.h"

namespace echo {

// Cuts all documents, epoch after epoch, into rows. The documents come from a TokenStream. Blocks of rows are made of them:
// a block takes as many documents as fill its rows, permutes them, and gives its rows in an order of its own. The first and the
// last document of a block keep their place, since the next block begins where this one ended, within the last document.
// Documents and rows of different epochs are not mixed. Every token but the very first is predicted exactly once, and none is
// dropped. Without shuffling a block is one row: row n has the tokens nT to nT+T-1 of the stream as inputs.
// Of these rows, this packer gives those of its rank (DataSettings): n = rank + k * world for k = 0, 1, ... Each rank reads and
// tokenizes all documents, since only their tokens tell where a row begins.
// A packer started from a row's `next` gives the rows that would have come. `next` of row k of each rank is the same: where row
// (k + 1) * world begins. So ranks that have taken equally many rows can be resumed from the cursor of any of them, also with
// another number of ranks.
class TrainingPacker {
 public:
  // Arguments as of TokenStream. Throws Error: as TokenStream does; config when `start` was saved with another way of
  // shuffling; bad_data when its row is not in a block. next() finds out that its token is not in the data.
  TrainingPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double held_out_fraction,
                 Tokenizer tokenizer, const DataCursor& start);

  // Throws what TokenStream::next throws. Returns false when `stop` was requested meanwhile; call it no more then.
  bool next(Row& row, const std::stop_token& stop = {});

  const DataSettings& settings() const { return settings_; }

 private:
  // Tokens begin to end - 1 of a document. Blocks share the tokens, because a long document reaches through many of them.
  struct Document {
    std::shared_ptr<const std::vector<int32_t>> tokens;
    int64_t begin, end;
    int64_t epoch;
    std::span<const int32_t> used() const { return std::span(*tokens).subspan(size_t(begin), size_t(end - begin)); }
  };
  std::optional<std::vector<Document>> read_block(const std::stop_token& stop);
  bool make_block(const std::stop_token& stop);
  void order_rows(const std::vector<Document>& documents, RandomSequence& random);

  DataSettings settings_;
  TokenStream stream_;
  DataCursor block_;                 // where the block begins; `row` is the next one to give
  DataCursor next_block_;            // where the block after it begins
  std::optional<Document> carried_;  // the rest of the document in which the next block begins
  PackedTokens packed_;              // the tokens of the block
  std::vector<int64_t> order_;       // of the block's rows; empty when the block is not made yet
};

// Cuts held-out documents in the same way, but in order, and reads them only once. The last row is filled up with end tokens
// whose labels are kIgnoredLabel.
class HeldOutPacker {
 public:
  // keep_fraction: 1 takes every document, less takes those of is_held_out. Throws Error (config) as check_tokenizer does.
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
  PackedTokens packed_;
  int64_t row_ = 0;  // the next one to cut
};

}  // namespace echo
