#include "data/data_settings.h"

#include <filesystem>

#include "base/error.h"

namespace echo {

DataPaths resolve_data_paths(const std::string& path, const std::string& validation_path, double validation_fraction) {
  if (!(validation_fraction >= 0 && validation_fraction < 1))
    fail(ExitCode::config, "validation_fraction is ", validation_fraction, ", expected 0 to below 1");
  std::error_code ignored;
  const std::filesystem::path root = path;
  const bool has_train = std::filesystem::is_directory(root / "train", ignored);
  DataPaths paths;
  paths.training = has_train ? (root / "train").string() : path;
  if (!validation_path.empty()) {
    paths.validation = validation_path;
  } else if (has_train && std::filesystem::is_directory(root / "validation", ignored)) {
    paths.validation = (root / "validation").string();
  } else if (validation_fraction > 0) {
    paths.validation = paths.training;
    paths.held_out_fraction = validation_fraction;
  }
  return paths;
}

}  // namespace echo
