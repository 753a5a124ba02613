#include "data/packed_tokens.h"

#include <algorithm>

#include "base/error.h"

namespace echo {

void PackedTokens::add(std::span<const int32_t> document) {
  if (document.empty()) return;
  starts_.push_back(count());
  tokens_.insert(tokens_.end(), document.begin(), document.end());
}

void PackedTokens::cut(int64_t index, int32_t padding, Row& row) const {
  const int64_t begin = index * row_length_, end = std::min(begin + row_length_, count());
  ECHO_CHECK(begin + 1 < count(), "row ", index, " of ", row_length_, " tokens is cut from ", count(), " tokens");
  row.inputs.assign(tokens_.begin() + begin, tokens_.begin() + end);
  row.labels.assign(tokens_.begin() + begin + 1, tokens_.begin() + std::min(end + 1, count()));
  row.valid_tokens = int64_t(row.labels.size());
  row.inputs.resize(size_t(row_length_), padding);
  row.labels.resize(size_t(row_length_), kIgnoredLabel);
  row.first_key.clear();
  if (!with_first_key_) return;
  row.first_key.assign(size_t(row_length_), 0);
  const auto fill_from = [&](int64_t start) {
    std::fill(row.first_key.begin() + (start - begin), row.first_key.end(), int32_t(start - begin));
  };
  // Padding counts as a document.
  for (auto start = std::lower_bound(starts_.begin(), starts_.end(), begin); start != starts_.end() && *start < end; ++start)
    fill_from(*start);
  if (end < begin + row_length_) fill_from(end);
}

void PackedTokens::drop_rows(int64_t rows) {
  const int64_t dropped = std::min(rows * row_length_, count());
  tokens_.erase(tokens_.begin(), tokens_.begin() + dropped);
  std::erase_if(starts_, [&](int64_t start) { return start < dropped; });
  for (int64_t& start : starts_) start -= dropped;
}

}  // namespace echo
