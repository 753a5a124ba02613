#include "data/document_source.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace echo {
namespace {

std::string without_prefix(std::string_view name) {
  constexpr std::string_view kPrefix = "RedPajama";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name);
}

}  // namespace

SkipCounts& SkipCounts::operator+=(const SkipCounts& other) {
  records += other.records;
  documents += other.documents;
  other_sets += other.other_sets;
  empty_text += other.empty_text;
  damaged_json += other.damaged_json;
  missing_text += other.missing_text;
  invalid_utf8 += other.invalid_utf8;
  too_long += other.too_long;
  return *this;
}

std::string SkipCounts::describe() const {
  std::string text =
      std::to_string(bad()) + " of " + std::to_string(records) + (records == 1 ? " record is bad" : " records are bad");
  const std::pair<int64_t, const char*> reasons[] = {
      {damaged_json, "damaged JSON"}, {missing_text, "without a text field"},  {invalid_utf8, "invalid UTF-8"},
      {too_long, "over 64 MiB"},      {other_sets, "of other sets (not bad)"}, {empty_text, "with an empty text (not bad)"}};
  const char* separator = ": ";
  for (const auto& [count, reason] : reasons) {
    if (count == 0) continue;
    text += separator + std::to_string(count) + " " + reason;
    separator = ", ";
  }
  return text;
}

SetFilter::SetFilter(const std::vector<std::string>& names) {
  for (const std::string& name : names) names_.push_back(without_prefix(name));
}

bool SetFilter::accepts(const std::string& set_name) const {
  return names_.empty() || std::find(names_.begin(), names_.end(), without_prefix(set_name)) != names_.end();
}

}  // namespace echo
