#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/path_list.h"

namespace echo {

class RemoteData;

// Where training and held-out documents are. Each entry is what find_data_files (data/source_factory.h) takes.
struct DataPaths {
  PathList training = {};
  PathList validation;                      // empty: there is no held-out text
  double held_out_fraction = 0;             // > 0: validation is the same data, split by a hash of each document's text
  std::shared_ptr<RemoteData> remote = {};  // the entries on other machines; null when all are on this one
};

// Determines the paths from the files that exist now. Of each entry of `path` that is a folder with train/ in it, only that
// part is used for training. Held-out documents are those of `validation_path` if it is given. Otherwise, when entries contain
// train/ and validation/ (SlimPajama's layout), those of validation/. Otherwise the share `validation_fraction` (0 to below 1)
// of the documents of `path`, which training then skips. Throws Error (config) for a fraction outside that range.
DataPaths resolve_data_paths(const PathList& path, const PathList& validation_path = {}, double validation_fraction = 0.01,
                             std::shared_ptr<RemoteData> remote = nullptr);

// The training data, and how it is cut into rows.
struct DataSettings {
  DataPaths paths;
  std::vector<std::string> set_names;         // parts of RedPajama wanted ("C4" or "RedPajamaC4"); empty: all documents
  std::map<std::string, double> set_weights;  // of parts of RedPajama: see SetWeights (data/document_source.h)
  int64_t sequence_length = 2048;             // tokens of a row
  bool bos_per_document = false;              // a begin token before each document
  bool reset_attention = false;               // also give each token's first key: attention stays within the document
  double max_bad_fraction = 0.01;             // of the records; with more bad ones the run stops (exit code 65)
  uint64_t seed = 0;                          // of the order of the data
  int64_t max_skipped_shards = 0;             // files of other machines that a run may go on without
  int64_t shuffle_tokens = 0;  // tokens of a block whose documents and rows are permuted; 0: the order of the files

  // Several processes may divide the training rows. Process `rank` of `world` takes the rows rank, rank + world, rank + 2
  // world, ... of the sequence of rows that the settings above define. Held-out rows are not divided.
  int64_t rank = 0, world = 1;
};

}  // namespace echo
