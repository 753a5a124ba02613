#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/document_source.h"

namespace echo {

// The documents of many files, one file open at a time, in the order given.
//   next() throws Error (bad_data) with the counts by reason once more than `max_bad_fraction` of the records are bad: judged
//   from the 100th record on, and at the end of the files however few they were.
class CorpusSource : public DocumentSource {
 public:
  // name: what to call the data in errors (the path that the user gave).
  CorpusSource(std::string name, std::vector<std::filesystem::path> files, SetFilter filter, double max_bad_fraction);

  bool next(Document& document) override;
  SourcePosition position() const override;  // after next(): in the file of the document just given
  void restore(const SourcePosition& position) override;
  SkipCounts counts() const override;
  void set_counts(const SkipCounts& counts);  // counting goes on from here; call it before restore() and next()

 private:
  void check_bad_fraction(int64_t fewest_records) const;

  std::string name_;
  std::vector<std::filesystem::path> files_;
  SetFilter filter_;
  double max_bad_fraction_;
  size_t file_ = 0;
  std::unique_ptr<DocumentSource> current_;  // of files_[file_]; none when it is not open yet
  SkipCounts earlier_;                       // of what came before current_
};

}  // namespace echo
