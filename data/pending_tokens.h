#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "data/data_cursor.h"

namespace echo {

// One row: inputs (T), labels (T), and first_key (T) if requested, otherwise empty.
//   label[t] is the token after input[t] in the stream, or kIgnoredLabel.
//   first_key[t] is the index in the row of the first token of input[t]'s document (0 when the document began in an earlier
//   row).
inline constexpr int32_t kIgnoredLabel = -1;
struct Row {
  std::vector<int32_t> inputs, labels, first_key;
  int64_t valid_tokens = 0;  // labels that count
  DataCursor next;           // the beginning of the row after this one (training rows only)
};

// Documents in order, of which some tokens are not in rows yet. Documents are added at the end, and rows are cut from the
// front. A row of T inputs needs T + 1 tokens, because the last label is the first input of the next row.
class PendingTokens {
 public:
  // row_length: T. padding: the token that fills the rest of a row when the tokens run out.
  PendingTokens(int64_t row_length, bool with_first_key, int32_t padding)
      : row_length_(row_length), with_first_key_(with_first_key), padding_(padding) {}

  void add(std::vector<int32_t> tokens, const DataCursor& start = {});  // a document; `start` is its first token (token 0)
  int64_t count() const { return count_; }                              // tokens from the first one of the next row on
  bool fill_a_row() const { return count_ > row_length_; }

  // Cuts the next row (all fields except `next`). If the tokens do not fill it, the rest is padding with ignored labels.
  void take_row(Row& row);
  void drop_row() { drop(row_length_); }  // the same without building it
  void drop(int64_t tokens);              // from the front, at most all tokens
  DataCursor cursor() const;              // of the next row's first token; at least one token must be pending

 private:
  struct Document {
    std::vector<int32_t> tokens;
    DataCursor start;
  };

  int64_t row_length_;
  bool with_first_key_;
  int32_t padding_;
  std::deque<Document> documents_;  // from the one with the beginning of the next row
  size_t offset_ = 0;               // of that beginning in documents_.front()
  int64_t count_ = 0;
};

}  // namespace echo
