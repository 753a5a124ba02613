#pragma once

#include <memory>

#include "data/byte_reader.h"
#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

// Documents of one .jsonl or .jsonl.zst file. Each line is an object with a string `text` and, optionally, a string
// `meta.redpajama_set_name`; everything else is ignored. Blank lines are skipped. A line that is not valid JSON, has no text,
// is not valid UTF-8 or is longer than kLongestRecord is skipped and counted. The constructor opens the file, and throws as
// DataFile::open.
class JsonlSource : public DocumentSource {
 public:
  JsonlSource(const DataFile& file, SetFilter filter);
  bool next(Document& document) override;
  SourcePosition position() const override { return {record_, lines_->position()}; }
  // Seeks to the byte of the position in a plain file; decompresses what is before it in a compressed one.
  void restore(const SourcePosition& position) override;
  SkipCounts counts() const override { return counts_; }

 private:
  void open(const SourcePosition& position);

  DataFile file_;
  SetFilter filter_;
  std::unique_ptr<LineReader> lines_;
  std::string line_;
  int64_t record_ = 0;
  SkipCounts counts_;
};

}  // namespace echo
