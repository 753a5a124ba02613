#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace echo {

// A record is a line of a .jsonl file, or a whole .txt file. Longer ones are bad records: memory stays bounded.
inline constexpr size_t kLongestRecord = size_t{64} << 20;  // bytes

struct Document {
  std::string text;
  std::string set_name;  // meta.redpajama_set_name, empty when absent
  std::filesystem::path file;
  int64_t record = 0;  // number of the line in the file, from 0
};

// What became of the records read so far.
struct SkipCounts {
  int64_t records = 0;       // read, blank lines not counted
  int64_t documents = 0;     // given out
  int64_t other_sets = 0;    // of a set that was not asked for: not bad
  int64_t empty_text = 0;    // not bad
  int64_t damaged_json = 0;  // the rest is bad
  int64_t missing_text = 0;
  int64_t invalid_utf8 = 0;
  int64_t too_long = 0;

  int64_t bad() const { return damaged_json + missing_text + invalid_utf8 + too_long; }
  SkipCounts& operator+=(const SkipCounts& other);
  bool operator==(const SkipCounts&) const = default;
  // "5 of 120 records are bad: 3 damaged JSON, 2 invalid UTF-8"
  std::string describe() const;
};

// The names of RedPajama's parts that are wanted, each with or without the prefix "RedPajama". Empty: all documents.
class SetFilter {
 public:
  SetFilter() = default;
  explicit SetFilter(const std::vector<std::string>& names);
  bool accepts(const std::string& set_name) const;

 private:
  std::vector<std::string> names_;  // without the prefix
};

// Where a source goes on: `record` of file number `file` is read next. Sources of one file keep file = 0.
struct SourcePosition {
  int64_t file = 0;
  int64_t record = 0;
  bool operator==(const SourcePosition&) const = default;
};

// A stream of documents. Bad records are skipped and counted; a file that cannot be read on (damaged compression) throws Error.
class DocumentSource {
 public:
  virtual ~DocumentSource() = default;
  virtual bool next(Document& document) = 0;  // false at the end
  virtual SourcePosition position() const = 0;
  virtual void restore(const SourcePosition& position) = 0;  // the records before it are not counted
  virtual SkipCounts counts() const = 0;
};

}  // namespace echo
