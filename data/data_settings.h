#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

// Where training and held-out documents come from: each a file, a folder or a shell pattern of .jsonl, .jsonl.zst, .txt.
struct DataPaths {
  std::string training;
  std::string validation;        // empty: there is no held-out text
  double held_out_fraction = 0;  // > 0: validation is the same data, split by a hash of each document's text
};

// Looks once at what is there. A `path` that is a folder with train/ in it is trained on that part alone. Held-out documents
// are those of `validation_path` if given; else, when `path` has train/ and validation/ in it (SlimPajama's layout), those of
// the latter; else the share `validation_fraction` (0 to below 1) of the documents of `path`, which training then leaves out.
// Throws Error (config) for a fraction outside that range.
DataPaths resolve_data_paths(const std::string& path, const std::string& validation_path = "",
                             double validation_fraction = 0.01);

// What to train on and how it is cut into rows.
struct DataSettings {
  DataPaths paths;
  std::vector<std::string> set_names;  // parts of RedPajama wanted ("C4" or "RedPajamaC4"); empty: all documents
  int64_t sequence_length = 2048;      // tokens of a row
  bool bos_per_document = false;       // a begin token before each document
  bool reset_attention = false;        // also give each token's first key: attention stays within the document
  double max_bad_fraction = 0.01;      // of the records; with more bad ones the run stops (exit code 65)
  uint64_t seed = 0;                   // of the order of the files

  // Several processes may share the training rows: process `rank` of `world` takes rows rank, rank + world, rank + 2 world, ...
  // of the one sequence of rows that the settings above define. Held-out rows are not shared out.
  int64_t rank = 0, world = 1;
};

}  // namespace echo
