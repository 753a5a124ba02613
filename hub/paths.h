#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace echo {

// Finds the inputs of a configuration. A relative path is tried as given (from the current folder), then in the folder
// $ECHOATT_SHARED if that is set, then in ../shared. An absolute path is tried only as given. `key` is the setting or option
// with the path, and begins the message. All functions throw Error (input_missing) with every place that was tried, and the
// ways to provide the input.

// A file or folder. For a glob (* ? [), the folders before its first wildcard must exist, and the rest is kept.
std::filesystem::path resolve_input(const std::string& path, const std::string& key);

// A model folder. In each place, models/<path> and models/<last part of path> are also tried. So the hub name ORGANISATION/NAME
// finds models/NAME. When there is no such folder, the model comes from the hub's cache, and is fetched if it is not there.
// The same holds for an address hf://ORGANISATION/NAME[@REVISION]. Shows the progress on stderr. Also throws the codes of
// download_model.
std::filesystem::path resolve_model(const std::string& name_or_path, const std::string& key);

// The folders that are searched after the current one: $ECHOATT_SHARED if set, and ../shared.
std::vector<std::filesystem::path> shared_folders();

}  // namespace echo
