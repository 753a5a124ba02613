#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/path_list.h"
#include "data/data_settings.h"
#include "data/remote_data.h"

namespace echo {

// What a program wants to read.
struct DataSearch {
  PathList data = {}, validation = {};
  double validation_fraction = 0;
  std::string key = "--data", validation_key = "--validation";  // the options or settings that name them, for messages
  double cache_gib = 20;                                        // bound of the shards on the disk
  std::string cache_folder = {};                                // of the shards; empty: the usual one
  // What an earlier start of the run, or its first rank, has found. If it is of the same addresses, nobody else is asked.
  std::optional<DataManifest> known = {};
  std::function<void(const std::string& line)> notice = {};  // receives lines about waiting; may be empty
};

struct FoundData {
  PathList all;     // everything that `data` names
  DataPaths paths;  // its training part and its held-out part
};

// Finds all entries, here (resolve_input) or on other machines (list_remote_data). Throws Error: input_missing with the key,
// every place that was searched and the ways to provide the data; config when the bound of the shards is too small; and what
// list_remote_data throws.
FoundData find_data(const DataSearch& search);

}  // namespace echo
