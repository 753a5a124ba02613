#include "data/document_source.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace echo {
namespace {

std::string without_prefix(std::string_view name) {
  constexpr std::string_view kPrefix = "RedPajama";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name);
}

}  // namespace

std::span<const SkipCounts::Field> SkipCounts::fields() {
  static constexpr Field kFields[] = {
      {"records", &SkipCounts::records},           {"documents", &SkipCounts::documents},
      {"other_sets", &SkipCounts::other_sets},     {"empty_text", &SkipCounts::empty_text},
      {"damaged_json", &SkipCounts::damaged_json}, {"missing_text", &SkipCounts::missing_text},
      {"invalid_utf8", &SkipCounts::invalid_utf8}, {"too_long", &SkipCounts::too_long},
  };
  return kFields;
}

SkipCounts& SkipCounts::operator+=(const SkipCounts& other) {
  for (const Field& field : fields()) this->*field.count += other.*field.count;
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

SetWeights::SetWeights(const std::map<std::string, double>& weights) {
  for (const auto& [name, weight] : weights) {
    if (!(weight >= 0)) fail(ExitCode::config, "the set ", name, " has the weight ", weight, ", expected 0 or more");
    weights_[without_prefix(name)] = weight;
    largest_ = std::max(largest_, weight);
  }
}

double SetWeights::share(const std::string& set_name) const {
  const auto found = weights_.find(without_prefix(set_name));
  return (found == weights_.end() ? 1 : found->second) / largest_;
}

bool SetFilter::accepts(const std::string& set_name) const {
  return names_.empty() || std::find(names_.begin(), names_.end(), without_prefix(set_name)) != names_.end();
}

}  // namespace echo
