#include "data/pending_tokens.h"

#include <algorithm>

#include "base/error.h"

namespace echo {
namespace {

// Copies tokens into a row: as inputs while there is room, and as labels one position earlier.
class RowBuilder {
 public:
  RowBuilder(Row& row, int64_t length, bool with_first_key) : row_(row), length_(length), with_first_key_(with_first_key) {
    row.inputs.clear();
    row.labels.clear();
    row.first_key.clear();
    row.valid_tokens = 0;
    row.inputs.reserve(size_t(length));
    row.labels.reserve(size_t(length));
  }
  bool full() const { return int64_t(row_.labels.size()) == length_; }

  // Adds the tokens of one document from `offset` on.
  void add(const std::vector<int32_t>& tokens, size_t offset) {
    const auto first_key = static_cast<int32_t>(row_.inputs.size());
    for (size_t i = offset; i < tokens.size() && !full(); ++i) add_token(tokens[i], first_key);
  }

  // Fills the rest of a row that the data does not fill.
  void pad(int32_t token) {
    const auto first_key = static_cast<int32_t>(row_.inputs.size());
    while (!full()) {
      if (!row_.inputs.empty() && row_.labels.size() < row_.inputs.size()) row_.labels.push_back(kIgnoredLabel);
      if (int64_t(row_.inputs.size()) < length_) add_input(token, first_key);
    }
  }

 private:
  void add_token(int32_t token, int32_t first_key) {
    if (!row_.inputs.empty()) {
      row_.labels.push_back(token);
      ++row_.valid_tokens;
    }
    if (int64_t(row_.inputs.size()) < length_) add_input(token, first_key);
  }
  void add_input(int32_t token, int32_t first_key) {
    row_.inputs.push_back(token);
    if (with_first_key_) row_.first_key.push_back(first_key);
  }

  Row& row_;
  int64_t length_;
  bool with_first_key_;
};

}  // namespace

void PendingTokens::add(std::vector<int32_t> tokens, const DataCursor& start) {
  if (tokens.empty()) return;
  count_ += int64_t(tokens.size());
  documents_.push_back({std::move(tokens), start});
}

void PendingTokens::take_row(Row& row) {
  RowBuilder builder(row, row_length_, with_first_key_);
  for (size_t i = 0; i < documents_.size() && !builder.full(); ++i) builder.add(documents_[i].tokens, i == 0 ? offset_ : 0);
  builder.pad(padding_);
  drop_row();
}

void PendingTokens::drop(int64_t tokens) {
  tokens = std::min(tokens, count_);
  count_ -= tokens;
  offset_ += size_t(tokens);
  while (!documents_.empty() && offset_ >= documents_.front().tokens.size()) {
    offset_ -= documents_.front().tokens.size();
    documents_.pop_front();
  }
}

DataCursor PendingTokens::cursor() const {
  ECHO_CHECK(count_ > 0, "the position of the next token is asked for where none is pending");
  DataCursor cursor = documents_.front().start;
  cursor.token = int64_t(offset_);
  return cursor;
}

}  // namespace echo
