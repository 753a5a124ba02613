#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace echo {

// Finds what a configuration names. A relative path is looked for as given (from the current folder), then under the
// folder $ECHOATT_SHARED when that is set, then under ../shared; an absolute path only as given. `key` is the setting
// or option that named it and begins the message. All throw Error (input_missing) naming every place looked at and the
// ways to provide it.

// A file or folder. A glob (* ? [) is found by the folders before its first wildcard and keeps the rest.
std::filesystem::path resolve_input(const std::string& path, const std::string& key);

// A model folder. Each place is also tried with models/<path> and models/<last part of path>, so that the name of a
// model on the hub, ORGANISATION/NAME, finds models/NAME.
std::filesystem::path resolve_model(const std::string& name_or_path, const std::string& key);

// The folders after the current one: $ECHOATT_SHARED if set, and ../shared.
std::vector<std::filesystem::path> shared_folders();

}  // namespace echo
