#pragma once

#include "data/document_source.h"

namespace echo {

// A .txt file is one document: plain text has no agreed mark between documents, and blank lines stand inside them too. For many
// documents use one file each, or .jsonl. A byte order mark is dropped. Not valid UTF-8, or longer than kLongestRecord: a bad
// record.
class TextSource : public DocumentSource {
 public:
  TextSource(const std::filesystem::path& file, SetFilter filter) : file_(file), filter_(std::move(filter)) {}
  bool next(Document& document) override;
  SourcePosition position() const override { return {0, record_}; }
  void restore(const SourcePosition& position) override { record_ = position.record; }
  SkipCounts counts() const override { return counts_; }

 private:
  std::filesystem::path file_;
  SetFilter filter_;
  int64_t record_ = 0;
  SkipCounts counts_;
};

}  // namespace echo
