#include "data/token_stream.h"

#include <xxhash.h>

#include "base/error.h"
#include "data/shuffle.h"

namespace echo {

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

void check_tokenizer(const DataSettings& settings, const Tokenizer& tokenizer) {
  if (tokenizer.eos_id() < 0) fail(ExitCode::config, "the tokenizer has no end token, which packing puts between documents");
  if (settings.bos_per_document && tokenizer.bos_id() < 0)
    fail(ExitCode::config, "bos_per_document: the tokenizer has no begin token");
}

TokenStream::TokenStream(const DataSettings& settings, std::string name, std::vector<DataFile> files, double held_out_fraction,
                         Tokenizer tokenizer, const DataCursor& start)
    : settings_(settings),
      name_(std::move(name)),
      files_(std::move(files)),
      held_out_fraction_(held_out_fraction),
      tokenizer_(std::move(tokenizer)),
      weights_(settings.set_weights),
      fingerprint_(fingerprint_of_files(files_)) {
  check_tokenizer(settings_, tokenizer_);
  if (start.files != 0 && start.files != fingerprint_)
    fail(ExitCode::bad_data, name_, ": these are not the data files the saved run was reading (names, sizes or number differ)");
  skipped_->names = start.skipped;
  skipped_->most = settings_.max_skipped_shards;
  begin_epoch(start.epoch);
  source_->set_counts(start.counts);
  if (start.position == CorpusPosition{}) return;
  source_->restore(start.position);
  epoch_read_from_start_ = false;
}

void TokenStream::begin_epoch(int64_t epoch) {
  const SkipCounts counts = source_ ? source_->counts() : SkipCounts{};
  std::vector<DataFile> ordered;
  ordered.reserve(files_.size());
  for (const int64_t index : file_order(int64_t(files_.size()), settings_.seed, epoch))
    ordered.push_back(files_[size_t(index)]);
  source_ = std::make_unique<CorpusSource>(name_, std::move(ordered), SetFilter(settings_.set_names),
                                           settings_.max_bad_fraction, interleaving(settings_, epoch), skipped_.get());
  source_->set_counts(counts);
  epoch_ = epoch;
  epoch_read_from_start_ = true;
  documents_in_epoch_ = 0;
}

bool TokenStream::next(TokenizedDocument& document) {
  document.epoch = epoch_;
  document.position = source_->position();
  document.counts = source_->counts();
  Document text;
  if (!source_->next(text)) {
    if (epoch_read_from_start_ && documents_in_epoch_ == 0)
      fail(ExitCode::bad_data, name_, ": no documents to train on: ", source_->counts().describe(),
           source_->counts().documents > 0 ? "; the rest is held out, has no tokens or a set weight of 0" : "");
    begin_epoch(epoch_ + 1);
    return false;
  }
  const double share = weights_.share(text.set_name);
  if (share < 1 && set_random(settings_, epoch_).uniform(uint64_t(document.position.draws)) >= share) return false;
  if (held_out_fraction_ > 0 && is_held_out(text.text, held_out_fraction_)) return false;
  document.tokens = document_tokens(tokenizer_, text.text, settings_.bos_per_document);
  if (document.tokens.empty()) return false;
  ++documents_in_epoch_;
  return true;
}

}  // namespace echo
