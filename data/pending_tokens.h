#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "data/data_cursor.h"

namespace echo {

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

// Documents in order whose tokens are not all in rows yet. Documents are added at the end and rows are cut from the front. A
// row of T inputs needs T + 1 tokens, because the last label is the next row's first input.
class PendingTokens {
 public:
  // row_length: T. padding: the token that fills up a row when the tokens run out.
  PendingTokens(int64_t row_length, bool with_first_key, int32_t padding)
      : row_length_(row_length), with_first_key_(with_first_key), padding_(padding) {}

  void add(std::vector<int32_t> tokens, const DataCursor& start = {});  // a document; `start` is its first token (token 0)
  int64_t count() const { return count_; }                              // tokens from the next row's first one on
  bool fill_a_row() const { return count_ > row_length_; }

  // Cuts the next row (all fields but `next`). When the tokens do not fill it, the rest is padding with ignored labels.
  void take_row(Row& row);
  void drop_row() { drop(row_length_); }  // the same without building it
  void drop(int64_t tokens);              // from the front, at most all
  DataCursor cursor() const;              // of the next row's first token; at least one token must be pending

 private:
  struct Document {
    std::vector<int32_t> tokens;
    DataCursor start;
  };

  int64_t row_length_;
  bool with_first_key_;
  int32_t padding_;
  std::deque<Document> documents_;  // from the one that the next row begins in
  size_t offset_ = 0;               // of that row's first token in documents_.front()
  int64_t count_ = 0;
};

}  // namespace echo
