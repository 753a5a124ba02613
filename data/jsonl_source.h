#pragma once

#include <memory>

#include "data/byte_reader.h"
#include "data/document_source.h"

namespace echo {

// Documents of one .jsonl or .jsonl.zst file: each line an object with a string `text` and, optionally, a string
// `meta.redpajama_set_name`; everything else in it is ignored. Blank lines are passed over. A line that is not valid JSON,
// has no text, is not valid UTF-8 or is longer than kLongestRecord is skipped and counted.
class JsonlSource : public DocumentSource {
 public:
  JsonlSource(const std::filesystem::path& file, SetFilter filter);
  bool next(Document& document) override;
  SourcePosition position() const override { return {0, record_}; }
  void restore(const SourcePosition& position) override;
  SkipCounts counts() const override { return counts_; }

 private:
  void open();

  std::filesystem::path file_;
  SetFilter filter_;
  std::unique_ptr<LineReader> lines_;
  std::string line_;
  int64_t record_ = 0;
  SkipCounts counts_;
};

}  // namespace echo
