#include "data/packer.h"

#include <xxhash.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace echo {
namespace {

constexpr uint64_t kFileOrderStream = 0x66696C6573000000;  // no other use of the seed has this stream

void check_settings(const DataSettings& settings, const Tokenizer& tokenizer) {
  ECHO_CHECK(settings.sequence_length > 0, "sequence_length is ", settings.sequence_length);
  ECHO_CHECK(settings.rank >= 0 && settings.rank < settings.world, "rank ", settings.rank, " of ", settings.world,
             " processes");
  if (tokenizer.eos_id() < 0) fail(ExitCode::config, "the tokenizer has no end token, which packing puts between documents");
  if (settings.bos_per_document && tokenizer.bos_id() < 0)
    fail(ExitCode::config, "bos_per_document: the tokenizer has no begin token");
}

}  // namespace

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

TrainingPacker::TrainingPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files,
                               double held_out_fraction, Tokenizer tokenizer, const DataCursor& start)
    : settings_(settings),
      name_(std::move(name)),
      files_(std::move(files)),
      held_out_fraction_(held_out_fraction),
      tokenizer_(std::move(tokenizer)),
      fingerprint_(fingerprint_of_files(files_)),
      pending_(settings.sequence_length, settings.reset_attention, tokenizer_.eos_id()) {
  check_settings(settings_, tokenizer_);
  if (start.files != 0 && start.files != fingerprint_)
    fail(ExitCode::bad_data, name_, ": these are not the data files the saved run was reading (names, sizes or number differ)");
  begin_epoch(start.epoch);
  source_->set_counts(start.counts);
  if (start.position.file != 0 || start.position.record != 0) {
    source_->restore(start.position);
    epoch_read_from_start_ = false;
  }
  if (start.token > 0) begin_within_document(start);
}

void TrainingPacker::begin_within_document(const DataCursor& start) {
  while (pending_.count() == 0 && epoch_ == start.epoch) read_document();
  const SourcePosition found = pending_.count() > 0 ? pending_.cursor().position : SourcePosition{-1, -1, -1};
  if (found.file != start.position.file || found.record != start.position.record || start.token >= pending_.count())
    fail(ExitCode::bad_data, name_, ": the saved position (file ", start.position.file, ", record ", start.position.record,
         ", token ", start.token, ") is not in the data");
  pending_.drop(start.token);
}

void TrainingPacker::begin_epoch(int64_t epoch) {
  const SkipCounts counts = source_ ? source_->counts() : SkipCounts{};
  std::vector<DataFile> ordered;
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

void TrainingPacker::read_document() {
  Document document;
  if (!source_->next(document)) {
    if (epoch_read_from_start_ && documents_in_epoch_ == 0)
      fail(ExitCode::bad_data, name_, ": no documents to train on: ", source_->counts().describe(),
           source_->counts().documents > 0 ? "; the rest is held out or has no tokens" : "");
    return begin_epoch(epoch_ + 1);
  }
  if (held_out_fraction_ > 0 && is_held_out(document.text, held_out_fraction_)) return;
  std::vector<int32_t> tokens = document_tokens(tokenizer_, document.text, settings_.bos_per_document);
  if (tokens.empty()) return;
  ++documents_in_epoch_;
  // A packer that starts here reads this document again, so its counts must not include it yet.
  pending_.add(std::move(tokens), {epoch_, document.position, 0, fingerprint_, source_->counts().before_last_document()});
}

bool TrainingPacker::next(Row& row, const std::stop_token& stop) {
  for (int64_t rank = 0; rank < settings_.world; ++rank) {
    while (!pending_.fill_a_row()) {
      if (stop.stop_requested()) return false;
      read_document();
    }
    if (rank == settings_.rank)
      pending_.take_row(row);
    else
      pending_.drop_row();
  }
  row.next = pending_.cursor();
  return true;
}

HeldOutPacker::HeldOutPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double keep_fraction,
                             Tokenizer tokenizer)
    : settings_(settings),
      keep_fraction_(keep_fraction),
      tokenizer_(std::move(tokenizer)),
      source_(std::move(name), std::move(files), SetFilter(settings.set_names), settings.max_bad_fraction),
      pending_(settings.sequence_length, settings.reset_attention, tokenizer_.eos_id()) {
  check_settings(settings_, tokenizer_);
}

bool HeldOutPacker::next(Row& row) {
  Document document;
  while (!pending_.fill_a_row() && source_.next(document)) {
    if (keep_fraction_ < 1 && !is_held_out(document.text, keep_fraction_)) continue;
    pending_.add(document_tokens(tokenizer_, document.text, settings_.bos_per_document));
  }
  if (pending_.count() < 2) return false;  // nothing left to predict
  pending_.take_row(row);
  return true;
}

}  // namespace echo
