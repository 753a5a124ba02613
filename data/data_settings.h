#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

// What to train on and how it is cut into rows.
//
// When `path` is a folder with `train/` in it, only that part is trained on. The held-out documents are
// - those of `validation_path` if that is given;
// - else those of `validation/` when `path` is a folder with `train/` and `validation/` in it (SlimPajama's layout);
// - else the share `validation_fraction` of the documents of `path`, chosen by a hash of their text. Training leaves them out.
struct DataSettings {
  std::string path;                    // file, folder or shell pattern of .jsonl, .jsonl.zst, .txt
  std::string validation_path;         // the same for held-out documents; empty: see above
  double validation_fraction = 0.01;   // of the documents, 0 to below 1; used only when there is no separate held-out data
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
