#pragma once

#include <functional>
#include <optional>
#include <string>

#include "communication/communicator.h"
#include "config/train_config.h"
#include "data/data_search.h"

namespace echo {

using PrintLine = std::function<void(const std::string& line)>;

// How data on other machines is looked for.
struct DataLookup {
  std::optional<DataManifest> known;  // as DataSearch::known
  PrintLine notice;                   // may be empty
};

// Finds the data of a configuration. Throws what find_data throws.
FoundData find_run_data(const TrainConfig& config, const DataLookup& lookup = {});

// The manifest of an earlier start of this run: in its folder, or beside the checkpoint that it goes on from. Nothing when
// there is none. Throws Error (bad_data) when it is damaged.
std::optional<DataManifest> stored_manifest(const TrainConfig& config);

// Prints what a run would read: every file with its size, and totals. Fetches nothing.
void list_run_data(const TrainConfig& config, const PrintLine& print);

}  // namespace echo
