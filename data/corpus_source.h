#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

// The documents of many files, in the given order, with one file open at a time.
//   next() also throws Error (bad_data), with the counts by reason, when more than `max_bad_fraction` of the records are bad.
//   This is checked from the 100th record on, and at the end of the files for any number of records.
class CorpusSource : public DocumentSource {
 public:
  // name: what to call the data in errors (the path that the user gave).
  CorpusSource(std::string name, std::vector<DataFile> files, SetFilter filter, double max_bad_fraction);

  bool next(Document& document) override;
  SourcePosition position() const override;  // after next(): in the file of the document that it returned
  void restore(const SourcePosition& position) override;
  SkipCounts counts() const override;
  void set_counts(const SkipCounts& counts);  // counting continues from here; call it before restore() and next()

 private:
  void check_bad_fraction(int64_t fewest_records) const;

  std::string name_;
  std::vector<DataFile> files_;
  SetFilter filter_;
  double max_bad_fraction_;
  size_t file_ = 0;
  std::unique_ptr<DocumentSource> current_;  // reads files_[file_]; null while that file is not open
  SkipCounts earlier_;                       // of everything before current_
};

}  // namespace echo
