#include "training/run_data.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "data/source_factory.h"

namespace echo {

FoundData find_run_data(const TrainConfig& config, const DataLookup& lookup) {
  const settings::Data& data = config.data;
  return find_data({.data = data.path,
                    .validation = data.validation_path,
                    .validation_fraction = data.validation_fraction,
                    .key = "data.path",
                    .validation_key = "data.validation_path",
                    .cache_gib = data.cache_gib,
                    .cache_folder = data.cache_folder,
                    .known = lookup.known,
                    .notice = lookup.notice});
}

std::optional<DataManifest> stored_manifest(const TrainConfig& config) {
  std::vector<fs::path> places = {fs::path(config.output_dir) / kDataManifest};
  const std::string& checkpoint = config.resume_from_checkpoint;
  if (checkpoint != "auto" && checkpoint != "none") places.push_back(fs::absolute(checkpoint).parent_path() / kDataManifest);
  for (const fs::path& place : places)
    if (std::error_code ignored; fs::exists(place, ignored)) return data_manifest_from_text(read_file(place), place.string());
  return std::nullopt;
}

void list_run_data(const TrainConfig& config, const PrintLine& print) {
  const FoundData data = find_run_data(config, {stored_manifest(config), print});
  if (data.paths.remote)
    for (const ManifestSource& source : data.paths.remote->manifest().sources)
      print(HubAddress{source.repository, source.revision, "", true}.text() + " is at commit " + source.commit);
  const auto list = [&](const char* part, const PathList& paths) {
    const std::vector<DataFile> files = find_data_files(paths, data.paths.remote.get());
    int64_t bytes = 0;
    for (const DataFile& file : files) {
      bytes += std::max<int64_t>(0, file.size);
      print(fmt::format("{:>14}  {}", file.size < 0 ? "?" : std::to_string(file.size), file.name));
    }
    print(fmt::format("{}: {} file{}, {:.3f} GB", part, files.size(), files.size() == 1 ? "" : "s", double(bytes) * 1e-9));
  };
  list("training", data.paths.training);
  if (data.paths.held_out_fraction > 0)
    print(fmt::format("held out: {} of the documents of these files", data.paths.held_out_fraction));
  else if (!data.paths.validation.empty())
    list("held out", data.paths.validation);
}

}  // namespace echo
