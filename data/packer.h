#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>
#include <vector>

#include "data/corpus_source.h"
#include "data/data_settings.h"
#include "tokenizer/tokenizer.h"

namespace echo {

// A position in the endless training stream: the token that the next row begins with.
struct DataCursor {
  int64_t epoch = 0;
  int64_t file = 0;    // place in the epoch's order of the files
  int64_t record = 0;  // line of that file
  int64_t token = 0;   // of that document's tokens, begin and end tokens counted
  uint64_t files = 0;  // fingerprint of the files it belongs to; 0: a fresh start
  SkipCounts counts;   // of the records before it, over all epochs
  bool operator==(const DataCursor&) const = default;
};

nlohmann::json to_json(const DataCursor& cursor);
// Throws Error (bad_data) when a field is missing, ill-typed or negative.
DataCursor data_cursor_from_json(const nlohmann::json& json);

// One row: inputs (T), labels (T), and first_key (T) when asked for, else empty.
//   label[t] is the token after input[t] in the stream, or kIgnoredLabel.
//   first_key[t] is the index in the row of the first token of the document that input[t] is in (0 when it began in an
//   earlier row).
inline constexpr int32_t kIgnoredLabel = -1;
struct Row {
  std::vector<int32_t> inputs, labels, first_key;
  int64_t valid_tokens = 0;  // labels that count
  DataCursor next;           // where the row after this one begins (training rows only)
};

// Whether held-out selection by hash takes this text: a share `fraction` of all texts, the same ones always.
bool is_held_out(const std::string& text, double fraction);

// The tokens of a document as they go into the stream: [begin] text end. Empty when the text has no tokens.
std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const std::string& text, bool bos_per_document);

// The order of `count` files in an epoch: a permutation that depends on (seed, epoch) alone.
std::vector<int64_t> file_order(int64_t count, uint64_t seed, int64_t epoch);

// Cuts all documents, epoch after epoch, into rows: row n holds tokens nT to nT+T-1 of the stream as inputs and nT+1 to nT+T as
// labels, so every token but the very first is predicted exactly once and none is dropped.
// A packer started from a row's `next` gives the rows that would have come.
class TrainingPacker {
 public:
  // files: sorted (find_data_files); held_out_fraction: documents left out by is_held_out. Throws Error: config when the
  // tokenizer has no end token (or no begin token where one is asked for), bad_data when `start` belongs to other files.
  TrainingPacker(const DataSettings& settings, std::string name, std::vector<std::filesystem::path> files,
                 double held_out_fraction, Tokenizer tokenizer, const DataCursor& start);

  // Throws Error (bad_data) when a whole epoch has no document, or too many records are bad.
  // Returns false when `stop` was requested meanwhile.
  bool next(Row& row, const std::stop_token& stop = {});

 private:
  struct PendingDocument {
    std::vector<int32_t> tokens;
    DataCursor start;  // its first token
  };

  void begin_epoch(int64_t epoch);
  bool read_document();  // appends one document to pending_, or moves to the next epoch

  DataSettings settings_;
  std::string name_;
  std::vector<std::filesystem::path> files_;
  double held_out_fraction_;
  Tokenizer tokenizer_;
  uint64_t fingerprint_;

  int64_t epoch_ = 0;
  std::unique_ptr<CorpusSource> source_;
  bool epoch_read_from_start_ = true;
  int64_t documents_in_epoch_ = 0;

  std::deque<PendingDocument> pending_;  // from the one that the next row begins in
  size_t offset_ = 0;                    // of that row's first token in pending_.front()
  size_t pending_tokens_ = 0;            // in pending_, from offset_ on
};

// The same cut of held-out documents, once through. The last row is filled up with end tokens whose labels are kIgnoredLabel.
class HeldOutPacker {
 public:
  // keep_fraction: 1 takes every document, less takes those of is_held_out.
  HeldOutPacker(const DataSettings& settings, std::string name, std::vector<std::filesystem::path> files, double keep_fraction,
                Tokenizer tokenizer);
  bool next(Row& row);  // false at the end
  SkipCounts counts() const { return source_.counts(); }

 private:
  DataSettings settings_;
  double keep_fraction_;
  Tokenizer tokenizer_;
  CorpusSource source_;
  std::deque<std::vector<int32_t>> pending_;
  size_t offset_ = 0, pending_tokens_ = 0;
};

}  // namespace echo
