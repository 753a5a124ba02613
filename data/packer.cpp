#include "data/packer.h"

#include <numeric>

#include "base/error.h"
#include "data/shuffle.h"

namespace echo {
namespace {

void check_settings(const DataSettings& settings) {
  ECHO_CHECK(settings.sequence_length > 0, "sequence_length is ", settings.sequence_length);
  ECHO_CHECK(settings.shuffle_tokens >= 0, "shuffle_tokens is ", settings.shuffle_tokens);
  ECHO_CHECK(settings.rank >= 0 && settings.rank < settings.world, "rank ", settings.rank, " of ", settings.world,
             " processes");
}

std::string describe_shuffling(int64_t block_rows, int64_t open_files) {
  if (block_rows == 1 && open_files == 1) return "in the order of the files, as data.shuffle=false does";
  return concat("shuffled in blocks of ", block_rows, " rows, ", open_files, " files at a time");
}

}  // namespace

TrainingPacker::TrainingPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files,
                               double held_out_fraction, Tokenizer tokenizer, const DataCursor& start)
    : settings_(settings),
      stream_(settings, std::move(name), std::move(files), held_out_fraction, std::move(tokenizer), start),
      block_(start),
      packed_(settings.sequence_length, settings.reset_attention) {
  check_settings(settings_);
  const int64_t rows = block_rows(settings_), open_files = interleaving(settings_, 0).open_files;
  if (start.files != 0 && (start.block_rows != rows || start.open_files != open_files))
    fail(ExitCode::config, stream_.name(), ": the saved run read its data ",
         describe_shuffling(start.block_rows, start.open_files), "; now it would be read ",
         describe_shuffling(rows, open_files), ". Set data.shuffle and data.shuffle_tokens as they were, or begin a new run");
  if (start.row >= rows)
    fail(ExitCode::bad_data, stream_.name(), ": the saved position (row ", start.row, ") is not in a block of ", rows, " rows");
  block_.files = stream_.fingerprint();
  block_.block_rows = rows;
  block_.open_files = open_files;
  block_.skipped = start.skipped;
  next_block_ = block_;
}

// The documents of the next block, cut at both ends to the tokens that belong to it. Nothing when a stop was requested.
std::optional<std::vector<TrainingPacker::Document>> TrainingPacker::read_block(const std::stop_token& stop) {
  const DataCursor from = next_block_;
  int64_t missing = from.block_rows * settings_.sequence_length + 1;
  std::vector<Document> documents;
  const auto add = [&](Document document) {
    missing -= document.end - document.begin;
    documents.push_back(std::move(document));
  };
  if (carried_) add(*carried_);
  while (missing > 0) {
    if (stop.stop_requested()) return std::nullopt;
    TokenizedDocument document;
    const bool found = stream_.next(document);
    const int64_t begin = documents.empty() ? from.token : 0, end = int64_t(document.tokens.size());
    if (begin > 0 && (!found || begin >= end))
      fail(ExitCode::bad_data, stream_.name(), ": the saved position (epoch ", from.epoch, ", document ", from.position.draws,
           ", token ", from.token, ") is not in the data");
    if (!found) continue;
    add({std::make_shared<std::vector<int32_t>>(std::move(document.tokens)), begin, end, document.epoch});
    next_block_.epoch = document.epoch;
    next_block_.position = std::move(document.position);
    next_block_.counts = document.counts;
  }
  // The last token is only a label here, and the first input of the next block.
  Document& last = documents.back();
  carried_ = last;
  last.end += missing;  // 0 or less
  carried_->begin = last.end - 1;
  next_block_.token = carried_->begin;
  next_block_.block = from.block + 1;
  next_block_.row = 0;
  return documents;
}

// Rows are permuted with those of the same epoch: an epoch has been seen before the next one begins.
void TrainingPacker::order_rows(const std::vector<Document>& documents, RandomSequence& random) {
  order_.resize(size_t(block_.block_rows));
  std::iota(order_.begin(), order_.end(), int64_t{0});
  int64_t tokens = 0, first = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    tokens += documents[i].end - documents[i].begin;
    if (i + 1 < documents.size() && documents[i + 1].epoch == documents[i].epoch) continue;
    const int64_t T = settings_.sequence_length;
    const int64_t end = std::min(block_.block_rows, (tokens + T - 1) / T);  // rows that begin in this epoch
    shuffle(std::span(order_).subspan(size_t(first), size_t(end - first)), random);
    first = end;
  }
}

bool TrainingPacker::make_block(const std::stop_token& stop) {
  const DataCursor from = next_block_;
  auto documents = read_block(stop);
  if (!documents) return false;
  block_ = from;
  block_.skipped = next_block_.skipped = stream_.skipped();  // reading the block again must leave out the same files
  RandomSequence random = block_random(settings_, block_.block);
  if (settings_.shuffle_tokens > 0) {
    for (size_t begin = 1, end = 1; end < documents->size(); ++end) {
      const bool last = end + 1 == documents->size();
      if (!last && (*documents)[end].epoch == (*documents)[begin].epoch) continue;
      shuffle(std::span(*documents).subspan(begin, end - begin), random);
      begin = end;
    }
  }
  packed_ = PackedTokens(settings_.sequence_length, settings_.reset_attention);
  for (const Document& document : *documents) packed_.add(document.used());
  order_rows(*documents, random);
  return true;
}

bool TrainingPacker::next(Row& row, const std::stop_token& stop) {
  for (int64_t rank = 0; rank < settings_.world; ++rank) {
    if ((order_.empty() || block_.row == block_.block_rows) && !make_block(stop)) return false;
    if (rank == settings_.rank) packed_.cut(order_[size_t(block_.row)], stream_.end_token(), row);
    ++block_.row;
  }
  row.next = block_.row == block_.block_rows ? next_block_ : block_;
  return true;
}

HeldOutPacker::HeldOutPacker(const DataSettings& settings, std::string name, std::vector<DataFile> files, double keep_fraction,
                             Tokenizer tokenizer)
    : settings_(settings),
      keep_fraction_(keep_fraction),
      tokenizer_(std::move(tokenizer)),
      source_(std::move(name), std::move(files), SetFilter(settings.set_names), settings.max_bad_fraction),
      packed_(settings.sequence_length, settings.reset_attention) {
  check_settings(settings_);
  check_tokenizer(settings_, tokenizer_);
}

bool HeldOutPacker::next(Row& row) {
  if (row_ == packed_.rows()) {
    packed_.drop_rows(row_);
    row_ = 0;
    Document document;
    while (packed_.rows() == 0 && source_.next(document)) {
      if (keep_fraction_ < 1 && !is_held_out(document.text, keep_fraction_)) continue;
      packed_.add(document_tokens(tokenizer_, document.text, settings_.bos_per_document));
    }
    if (packed_.count() < 2) return false;  // nothing left to predict
    if (packed_.rows() == 0) {              // the last one
      packed_.cut(0, tokenizer_.eos_id(), row);
      packed_ = PackedTokens(settings_.sequence_length, settings_.reset_attention);
      return true;
    }
  }
  packed_.cut(row_++, tokenizer_.eos_id(), row);
  return true;
}

}  // namespace echo
