#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

// How the documents of several files are mixed. The default reads one file after the other.
struct Interleaving {
  int64_t open_files = 1;         // read at the same time; at least 1
  int64_t files_ahead = 0;        // that are expected (DataFile::expect) beside those that are read
  uint64_t seed = 0, stream = 0;  // of the random numbers that choose the file of each document (base/random.h)
};

// The files that reading goes on without, by name. The same ones are left out when a position is restored, so that the order
// stays the same.
struct SkippedFiles {
  std::vector<std::string> names;
  int64_t most = 0;  // with more of them reading ends
};

// A position among the documents of many files.
struct CorpusPosition {
  struct OpenFile {
    int64_t file = 0;  // number of the file
    SourcePosition position;
    bool operator==(const OpenFile&) const = default;
  };
  int64_t draws = 0;             // how many documents came before
  int64_t next_file = 0;         // the first file that is not open yet
  std::vector<OpenFile> opened;  // the files being read
  bool operator==(const CorpusPosition&) const = default;
};

// The documents of many files. `open_files` files are read at the same time. Each document comes from one of them, which is
// drawn with a chance in proportion to the file's size, so that files of different size end at about the same time (where the
// size of an open file is unknown, all have the same chance). A file that has ended makes room for the next one. The order
// depends on the files and the interleaving alone. A file that cannot be had (FileUnavailable) is passed over and added to
// `skipped`.
//   next() and restore() throw what reading the files throws (Error: input_missing, io, bad_data). next() also throws
//   Error (bad_data) with the counts by reason when more than `max_bad_fraction` of the records are bad. This is checked from
//   the 100th record on, and at the end of the files however few records there were.
class CorpusSource {
 public:
  // name: what to call the data in errors (the path that the user gave).
  // skipped: null to go on without no file. Otherwise it must outlive this object.
  CorpusSource(std::string name, std::vector<DataFile> files, SetFilter filter, double max_bad_fraction,
               const Interleaving& interleaving = {}, SkippedFiles* skipped = nullptr);

  bool next(Document& document);    // false at the end
  CorpusPosition position() const;  // of the document that next() gives next
  // Continues at a position that this source or an equal one gave. The records before it are neither parsed nor counted.
  // Throws Error (bad_data) also when the position names a file that is not there.
  void restore(const CorpusPosition& position);
  SkipCounts counts() const;
  void set_counts(const SkipCounts& counts);  // counting continues from here; call it before restore() and next()

 private:
  struct OpenFile {
    int64_t file;
    std::unique_ptr<DocumentSource> source;
  };
  void open_files();
  void expect_files();
  void open_next();
  bool is_skipped(const DataFile& file) const;
  size_t draw() const;
  void check_bad_fraction(int64_t fewest_records) const;

  std::string name_;
  std::vector<DataFile> files_;
  SetFilter filter_;
  double max_bad_fraction_;
  Interleaving interleaving_;
  SkippedFiles* skipped_;
  int64_t draws_ = 0;
  size_t next_file_ = 0, expected_ = 0;  // the first files that are not open yet and not expected yet
  std::vector<OpenFile> opened_;
  SkipCounts earlier_;  // of everything before the open files
};

}  // namespace echo
