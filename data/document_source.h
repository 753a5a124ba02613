#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace echo {

// A record is a line of a .jsonl file, or a whole .txt file. A longer record counts as bad, so that memory use stays bounded.
inline constexpr size_t kLongestRecord = size_t{64} << 20;  // bytes

// Where a record of a file begins.
struct SourcePosition {
  int64_t record = 0;  // number of the record in the file
  int64_t byte = -1;   // offset in the file's decompressed content; -1 when unknown, then records are counted
  bool operator==(const SourcePosition&) const = default;
};

struct Document {
  std::string text;
  std::string set_name;  // meta.redpajama_set_name, empty when absent
};

// What happened to the records read so far.
struct SkipCounts {
  int64_t records = 0;       // read; blank lines are not counted
  int64_t documents = 0;     // returned
  int64_t other_sets = 0;    // of a set that was not requested; not bad
  int64_t empty_text = 0;    // not bad
  int64_t damaged_json = 0;  // this and the following counts are bad records
  int64_t missing_text = 0;
  int64_t invalid_utf8 = 0;
  int64_t too_long = 0;

  int64_t bad() const { return damaged_json + missing_text + invalid_utf8 + too_long; }
  SkipCounts& operator+=(const SkipCounts& other);
  bool operator==(const SkipCounts&) const = default;

  struct Field {
    const char* name;  // in saved cursors
    int64_t SkipCounts::*count;
  };
  static std::span<const Field> fields();

  // "5 of 120 records are bad: 3 damaged JSON, 2 invalid UTF-8"
  std::string describe() const;
};

// The requested parts of RedPajama, with or without the prefix "RedPajama". Empty: all documents.
class SetFilter {
 public:
  SetFilter() = default;
  explicit SetFilter(const std::vector<std::string>& names);
  bool accepts(const std::string& set_name) const;

 private:
  std::vector<std::string> names_;  // without the prefix
};

// How often documents of RedPajama's parts are taken. A weight is relative to the largest one, and a part without a weight
// has 1. Names have the prefix "RedPajama" or not.
class SetWeights {
 public:
  SetWeights() = default;
  // Throws Error (config) for a weight below 0.
  explicit SetWeights(const std::map<std::string, double>& weights);
  double share(const std::string& set_name) const;  // of the part's documents that an epoch takes: 0 to 1

 private:
  std::map<std::string, double> weights_;  // by name without the prefix
  double largest_ = 1;
};

// The documents of one file. Bad records are skipped and counted. next() and restore() throw what reading the bytes throws
// (Error: io, or bad_data when compressed data is damaged).
class DocumentSource {
 public:
  virtual ~DocumentSource() = default;
  virtual bool next(Document& document) = 0;    // false at the end
  virtual SourcePosition position() const = 0;  // of the next record
  // Continues at a position from this source or an equal one. Earlier records are neither parsed nor counted.
  virtual void restore(const SourcePosition& position) = 0;
  virtual SkipCounts counts() const = 0;
};

}  // namespace echo
