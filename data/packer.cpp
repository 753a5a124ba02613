#include "data/packer.h"

#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "data/source_factory.h"

namespace echo {
namespace {

constexpr uint64_t kFileOrderStream = 0x66696C6573000000;  // keeps these random numbers apart from every other use of the seed

void check_settings(const DataSettings& settings, const Tokenizer& tokenizer) {
  ECHO_CHECK(settings.sequence_length > 0, "sequence_length is ", settings.sequence_length);
  if (tokenizer.eos_id() < 0) fail(ExitCode::config, "the tokenizer has no end token, which packing puts between documents");
  if (settings.bos_per_document && tokenizer.bos_id() < 0)
    fail(ExitCode::config, "bos_per_document: the tokenizer has no begin token");
}

// Copies tokens into a row: inputs as far as they reach, labels one place earlier.
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

  // The tokens of one document from `offset` on.
  void add(const std::vector<int32_t>& tokens, size_t offset) {
    const auto first_key = static_cast<int32_t>(row_.inputs.size());
    for (size_t i = offset; i < tokens.size() && !full(); ++i) add_token(tokens[i], first_key);
  }

  // Rows that the data no longer fills.
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

nlohmann::json to_json(const DataCursor& cursor) {
  const SkipCounts& c = cursor.counts;
  return {{"epoch", cursor.epoch},
          {"file", cursor.file},
          {"record", cursor.record},
          {"token", cursor.token},
          {"files", cursor.files},
          {"counts",
           {{"records", c.records},
            {"documents", c.documents},
            {"other_sets", c.other_sets},
            {"empty_text", c.empty_text},
            {"damaged_json", c.damaged_json},
            {"missing_text", c.missing_text},
            {"invalid_utf8", c.invalid_utf8},
            {"too_long", c.too_long}}}};
}

DataCursor data_cursor_from_json(const nlohmann::json& json) {
  const auto number = [](const nlohmann::json& object, const char* key) {
    const auto value = object.at(key).get<int64_t>();
    if (!object.at(key).is_number_integer() || value < 0)
      fail(ExitCode::bad_data, "the saved data position is damaged: \"", key, "\" is ", object.at(key).dump());
    return value;
  };
  try {
    DataCursor cursor;
    cursor.epoch = number(json, "epoch");
    cursor.file = number(json, "file");
    cursor.record = number(json, "record");
    cursor.token = number(json, "token");
    cursor.files = json.at("files").get<uint64_t>();
    const nlohmann::json& counts = json.at("counts");
    cursor.counts = {number(counts, "records"),      number(counts, "documents"),    number(counts, "other_sets"),
                     number(counts, "empty_text"),   number(counts, "damaged_json"), number(counts, "missing_text"),
                     number(counts, "invalid_utf8"), number(counts, "too_long")};
    return cursor;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "the saved data position is damaged: ", error.what());
  }
}

bool is_held_out(const std::string& text, double fraction) {
  return double(XXH3_64bits(text.data(), text.size()) >> 11) * 0x1.0p-53 < fraction;
}

std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const std::string& text, bool bos_per_document) {
  std::vector<int32_t> tokens = tokenizer.encode(text);
  if (tokens.empty()) return tokens;
  if (bos_per_document) tokens.insert(tokens.begin(), tokenizer.bos_id());
  tokens.push_back(tokenizer.eos_id());
  return tokens;
}

std::vector<int64_t> file_order(int64_t count, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  RandomSequence random(seed, kFileOrderStream + uint64_t(epoch));
  for (int64_t i = count - 1; i > 0; --i) std::swap(order[size_t(i)], order[random.below(uint64_t(i) + 1)]);
  return order;
}

TrainingPacker::TrainingPacker(const DataSettings& settings, std::string name, std::vector<std::filesystem::path> files,
                               double held_out_fraction, Tokenizer tokenizer, const DataCursor& start)
    : settings_(settings),
      name_(std::move(name)),
      files_(std::move(files)),
      held_out_fraction_(held_out_fraction),
      tokenizer_(std::move(tokenizer)),
      fingerprint_(fingerprint_of_files(files_)) {
  check_settings(settings_, tokenizer_);
  if (start.files != 0 && start.files != fingerprint_)
    fail(ExitCode::bad_data, name_, ": these are not the data files the saved run was reading (names, sizes or number differ)");
  begin_epoch(start.epoch);
  source_->set_counts(start.counts);
  if (start.file != 0 || start.record != 0) {
    source_->restore({start.file, start.record});
    epoch_read_from_start_ = false;
  }
  if (start.token == 0) return;
  while (pending_.empty() && epoch_ == start.epoch) read_document();
  if (pending_.empty() || pending_.front().start.record != start.record || pending_.front().start.file != start.file ||
      start.token >= int64_t(pending_.front().tokens.size()))
    fail(ExitCode::bad_data, name_, ": the saved position (file ", start.file, ", record ", start.record, ", token ",
         start.token, ") is not in the data");
  offset_ = size_t(start.token);
  pending_tokens_ -= offset_;
}

void TrainingPacker::begin_epoch(int64_t epoch) {
  const SkipCounts counts = source_ ? source_->counts() : SkipCounts{};
  std::vector<std::filesystem::path> ordered;
  ordered.reserve(files_.size());
  for (const int64_t index : file_order(int64_t(files_.size()), settings_.seed, epoch))
    ordered.push_back(files_[size_t(index)]);
  source_ =
      std::make_unique<CorpusSource>(name_, std::move(ordered), SetFilter(settings_.set_names), settings_.max_bad_fraction);
  source_->set_counts(counts);
  epoch_ = epoch;
  epoch_read_from_start_ = true;
  documents_in_epoch_ = 0;
}

bool TrainingPacker::read_document() {
  Document document;
  if (!source_->next(document)) {
    if (epoch_read_from_start_ && documents_in_epoch_ == 0)
      fail(ExitCode::bad_data, name_, ": no documents to train on: ", source_->counts().describe(),
           source_->counts().documents > 0 ? "; the rest is held out or has no tokens" : "");
    begin_epoch(epoch_ + 1);
    return false;
  }
  if (held_out_fraction_ > 0 && is_held_out(document.text, held_out_fraction_)) return false;
  std::vector<int32_t> tokens = document_tokens(tokenizer_, document.text, settings_.bos_per_document);
  if (tokens.empty()) return false;
  ++documents_in_epoch_;
  DataCursor start = {epoch_, source_->position().file, document.record, 0, fingerprint_, source_->counts()};
  --start.counts.records;  // a reader that starts here meets this document again
  --start.counts.documents;
  pending_tokens_ += tokens.size();
  pending_.push_back({std::move(tokens), start});
  return true;
}

bool TrainingPacker::next(Row& row, const std::stop_token& stop) {
  const auto length = size_t(settings_.sequence_length);
  while (pending_tokens_ < length + 1) {
    if (stop.stop_requested()) return false;
    read_document();
  }
  RowBuilder builder(row, settings_.sequence_length, settings_.reset_attention);
  for (size_t i = 0; !builder.full(); ++i) builder.add(pending_[i].tokens, i == 0 ? offset_ : 0);

  // The last label is the next row's first input, so at least one token stays.
  offset_ += length;
  pending_tokens_ -= length;
  while (offset_ >= pending_.front().tokens.size()) {
    offset_ -= pending_.front().tokens.size();
    pending_.pop_front();
  }
  row.next = pending_.front().start;
  row.next.token = int64_t(offset_);
  return true;
}

HeldOutPacker::HeldOutPacker(const DataSettings& settings, std::string name, std::vector<std::filesystem::path> files,
                             double keep_fraction, Tokenizer tokenizer)
    : settings_(settings),
      keep_fraction_(keep_fraction),
      tokenizer_(std::move(tokenizer)),
      source_(std::move(name), std::move(files), SetFilter(settings.set_names), settings.max_bad_fraction) {
  check_settings(settings_, tokenizer_);
}

bool HeldOutPacker::next(Row& row) {
  const auto length = size_t(settings_.sequence_length);
  Document document;
  while (pending_tokens_ < length + 1 && source_.next(document)) {
    if (keep_fraction_ < 1 && !is_held_out(document.text, keep_fraction_)) continue;
    std::vector<int32_t> tokens = document_tokens(tokenizer_, document.text, settings_.bos_per_document);
    pending_tokens_ += tokens.size();
    if (!tokens.empty()) pending_.push_back(std::move(tokens));
  }
  if (pending_tokens_ < 2) return false;  // nothing left to predict
  RowBuilder builder(row, settings_.sequence_length, settings_.reset_attention);
  for (size_t i = 0; i < pending_.size() && !builder.full(); ++i) builder.add(pending_[i], i == 0 ? offset_ : 0);
  builder.pad(tokenizer_.eos_id());

  offset_ += length;
  pending_tokens_ -= std::min(length, pending_tokens_);
  while (!pending_.empty() && offset_ >= pending_.front().size()) {
    offset_ -= pending_.front().size();
    pending_.pop_front();
  }
  return true;
}

}  // namespace echo
