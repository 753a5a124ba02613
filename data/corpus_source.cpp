#include "data/corpus_source.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"
#include "data/source_factory.h"

namespace echo {
namespace {

constexpr int64_t kFewestRecords = 100;  // a fraction of fewer records means little

}  // namespace

CorpusSource::CorpusSource(std::string name, std::vector<DataFile> files, SetFilter filter, double max_bad_fraction,
                           const Interleaving& interleaving, SkippedFiles* skipped)
    : name_(std::move(name)),
      files_(std::move(files)),
      filter_(std::move(filter)),
      max_bad_fraction_(max_bad_fraction),
      interleaving_(interleaving),
      skipped_(skipped) {
  ECHO_CHECK(interleaving.open_files > 0, "a corpus with ", interleaving.open_files, " open files");
}

void CorpusSource::check_bad_fraction(int64_t fewest_records) const {
  const SkipCounts total = counts();
  if (total.records < fewest_records || double(total.bad()) <= max_bad_fraction_ * double(total.records)) return;
  fail(ExitCode::bad_data, name_, ": too much bad data (max_bad_fraction is ", max_bad_fraction_, "): ", total.describe());
}

void CorpusSource::open_files() {
  expect_files();
  while (int64_t(opened_.size()) < interleaving_.open_files && next_file_ < files_.size()) {
    open_next();
    expect_files();
  }
}

// Those that will be open soon, and some after them.
void CorpusSource::expect_files() {
  const int64_t missing = interleaving_.open_files - int64_t(opened_.size());
  const size_t end = std::min(files_.size(), next_file_ + size_t(missing + interleaving_.files_ahead));
  for (expected_ = std::max(expected_, next_file_); expected_ < end; ++expected_)
    if (files_[expected_].expect && !is_skipped(files_[expected_])) files_[expected_].expect();
}

void CorpusSource::open_next() {
  const int64_t number = int64_t(next_file_++);
  const DataFile& file = files_[size_t(number)];
  if (is_skipped(file)) return;
  try {
    opened_.push_back({number, open_document_source(file, filter_)});
  } catch (const FileUnavailable& problem) {
    if (skipped_ == nullptr) throw;
    if (int64_t(skipped_->names.size()) >= skipped_->most)
      fail(problem.code(), problem.what(), "; ", skipped_->names.size(),
           " files were skipped before, and data.max_skipped_shards is ", skipped_->most,
           "; run the same command again to continue from the last checkpoint");
    skipped_->names.push_back(file.name);
  }
}

bool CorpusSource::is_skipped(const DataFile& file) const {
  return skipped_ != nullptr && std::find(skipped_->names.begin(), skipped_->names.end(), file.name) != skipped_->names.end();
}

// Which of the open files the next document comes from.
size_t CorpusSource::draw() const {
  if (opened_.size() == 1) return 0;
  const auto size_of_file = [&](const OpenFile& open) { return files_[size_t(open.file)].size; };
  const bool known = std::all_of(opened_.begin(), opened_.end(), [&](const OpenFile& open) { return size_of_file(open) >= 0; });
  const auto weight = [&](const OpenFile& open) { return known ? uint64_t(size_of_file(open)) + 1 : uint64_t{1}; };
  uint64_t total = 0;
  for (const OpenFile& open : opened_) total += weight(open);
  uint64_t number = Philox(interleaving_.seed, interleaving_.stream).below(uint64_t(draws_), total);
  size_t drawn = 0;
  while (number >= weight(opened_[drawn])) number -= weight(opened_[drawn++]);
  return drawn;
}

bool CorpusSource::next(Document& document) {
  for (open_files(); !opened_.empty(); open_files()) {
    const size_t drawn = draw();
    const bool found = opened_[drawn].source->next(document);
    check_bad_fraction(kFewestRecords);
    if (found) {
      ++draws_;
      return true;
    }
    earlier_ += opened_[drawn].source->counts();
    opened_.erase(opened_.begin() + long(drawn));
  }
  check_bad_fraction(0);
  return false;
}

CorpusPosition CorpusSource::position() const {
  CorpusPosition position{draws_, int64_t(next_file_), {}};
  position.opened.reserve(opened_.size());
  for (const OpenFile& open : opened_) position.opened.push_back({open.file, open.source->position()});
  return position;
}

void CorpusSource::restore(const CorpusPosition& position) {
  const auto count = int64_t(files_.size());
  for (const CorpusPosition::OpenFile& open : position.opened)
    if (open.file < 0 || open.file >= count)
      fail(ExitCode::bad_data, name_, ": the saved position is in file ", open.file, ", but there are ", count, " files");
  earlier_ = counts();
  opened_.clear();
  draws_ = position.draws;
  next_file_ = expected_ = size_t(std::clamp<int64_t>(position.next_file, 0, count));
  for (const CorpusPosition::OpenFile& open : position.opened)
    if (files_[size_t(open.file)].expect) files_[size_t(open.file)].expect();
  for (const CorpusPosition::OpenFile& open : position.opened) {
    opened_.push_back({open.file, open_document_source(files_[size_t(open.file)], filter_)});
    if (open.position.record > 0) opened_.back().source->restore(open.position);
  }
}

SkipCounts CorpusSource::counts() const {
  SkipCounts total = earlier_;
  for (const OpenFile& open : opened_) total += open.source->counts();
  return total;
}

void CorpusSource::set_counts(const SkipCounts& counts) {
  ECHO_CHECK(opened_.empty(), "counts are set before reading begins");
  earlier_ = counts;
}

}  // namespace echo
