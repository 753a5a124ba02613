#include "data/corpus_source.h"

#include "base/error.h"
#include "data/source_factory.h"

namespace echo {
namespace {

constexpr int64_t kFewestRecords = 100;  // a fraction of fewer records means little

}  // namespace

CorpusSource::CorpusSource(std::string name, std::vector<DataFile> files, SetFilter filter, double max_bad_fraction)
    : name_(std::move(name)), files_(std::move(files)), filter_(std::move(filter)), max_bad_fraction_(max_bad_fraction) {}

void CorpusSource::check_bad_fraction(int64_t fewest_records) const {
  const SkipCounts total = counts();
  if (total.records < fewest_records || double(total.bad()) <= max_bad_fraction_ * double(total.records)) return;
  fail(ExitCode::bad_data, name_, ": too much bad data (max_bad_fraction is ", max_bad_fraction_, "): ", total.describe());
}

bool CorpusSource::next(Document& document) {
  while (file_ < files_.size()) {
    if (!current_) current_ = open_document_source(files_[file_], filter_);
    const bool found = current_->next(document);
    check_bad_fraction(kFewestRecords);
    if (found) {
      document.position.file = static_cast<int64_t>(file_);
      return true;
    }
    earlier_ += current_->counts();
    current_.reset();
    ++file_;
  }
  check_bad_fraction(0);
  return false;
}

SourcePosition CorpusSource::position() const {
  SourcePosition position = current_ ? current_->position() : SourcePosition{};
  position.file = static_cast<int64_t>(file_);
  return position;
}

void CorpusSource::restore(const SourcePosition& position) {
  earlier_ = counts();
  file_ = static_cast<size_t>(position.file);
  current_.reset();
  if (file_ >= files_.size() || position.record == 0) return;
  current_ = open_document_source(files_[file_], filter_);
  current_->restore({0, position.record, position.byte});
}

SkipCounts CorpusSource::counts() const {
  SkipCounts total = earlier_;
  if (current_) total += current_->counts();
  return total;
}

void CorpusSource::set_counts(const SkipCounts& counts) {
  ECHO_CHECK(!current_, "counts are set before reading begins");
  earlier_ = counts;
}

}  // namespace echo
