#include "data/data_settings.h"

#include <filesystem>

#include "base/error.h"
#include "data/remote_data.h"

namespace echo {

DataPaths resolve_data_paths(const PathList& path, const PathList& validation_path, double validation_fraction,
                             std::shared_ptr<RemoteData> remote) {
  if (!(validation_fraction >= 0 && validation_fraction < 1))
    fail(ExitCode::config, "validation_fraction is ", validation_fraction, ", expected 0 to below 1");
  const auto has_folder = [&](const std::string& entry, const char* name) {
    std::error_code ignored;
    if (is_remote(entry)) return remote && remote->has_folder(entry, name);
    return std::filesystem::is_directory(std::filesystem::path(entry) / name, ignored);
  };
  DataPaths paths;
  PathList beside;  // the folders validation/
  for (const std::string& entry : path.entries) {
    const bool has_train = has_folder(entry, "train");
    const std::string folder = entry.ends_with('/') ? entry : entry + "/";
    paths.training.entries.push_back(has_train ? folder + "train" : entry);
    if (has_train && has_folder(entry, "validation")) beside.entries.push_back(folder + "validation");
  }
  if (!validation_path.empty()) {
    paths.validation = validation_path;
  } else if (!beside.empty()) {
    paths.validation = beside;
  } else if (validation_fraction > 0) {
    paths.validation = paths.training;
    paths.held_out_fraction = validation_fraction;
  }
  paths.remote = std::move(remote);
  return paths;
}

}  // namespace echo
