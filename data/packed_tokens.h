#pragma once

#include <cstdint>
#include <span>
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

// Documents one after the other as one sequence of tokens, and the rows of T inputs that it is cut into. Row n has tokens nT to
// nT + T - 1 as inputs. It needs T + 1 tokens, because its last label is the first input of row n + 1.
class PackedTokens {
 public:
  PackedTokens(int64_t row_length, bool with_first_key) : row_length_(row_length), with_first_key_(with_first_key) {}

  void add(std::span<const int32_t> document);  // at the end
  int64_t count() const { return int64_t(tokens_.size()); }
  int64_t rows() const { return count() > 0 ? (count() - 1) / row_length_ : 0; }  // that the tokens fill

  // Cuts row `index` (all fields but `next`). At least two tokens from its first one on must be there. Where the tokens do not
  // fill it, the rest is `padding` with ignored labels.
  void cut(int64_t index, int32_t padding, Row& row) const;
  void drop_rows(int64_t rows);  // the first ones

 private:
  int64_t row_length_;
  bool with_first_key_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> starts_;  // of the documents, ascending
};

}  // namespace echo
