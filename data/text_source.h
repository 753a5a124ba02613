#pragma once

#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

// A .txt file is one document, because plain text has no agreed separator of documents: blank lines also occur inside them. For
// many documents use one file per document, or .jsonl. A byte order mark is dropped. A text that is not valid UTF-8 or is
// longer than kLongestRecord is a bad record.
class TextSource : public DocumentSource {
 public:
  TextSource(const DataFile& file, SetFilter filter) : file_(file), filter_(std::move(filter)) {}
  bool next(Document& document) override;
  SourcePosition position() const override { return {record_, -1}; }
  void restore(const SourcePosition& position) override { record_ = position.record; }
  SkipCounts counts() const override { return counts_; }

 private:
  DataFile file_;
  SetFilter filter_;
  int64_t record_ = 0;
  SkipCounts counts_;
};

}  // namespace echo
