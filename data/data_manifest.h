#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "hub/address.h"
#include "hub/file_download.h"
#include "hub/listing.h"

namespace echo {

// The files of a repository that a run may read, at one commit.
struct ManifestSource {
  HubRepository repository;
  std::string revision;           // as the configuration names it
  std::string commit;             // that it had when the run began
  std::vector<ListedFile> files;  // data files, in the order of in_natural_order
};

// All data of a run that is on other machines, as it was when the run began. It is stored in the run's folder, so that later
// starts read the same data, whatever has changed since, and ask for no listing.
struct DataManifest {
  std::vector<std::string> addresses;  // of the configuration: those of data.path, then those of data.validation_path
  std::vector<ManifestSource> sources;
  std::vector<UrlFile> urls;  // single files

  bool empty() const { return sources.empty() && urls.empty(); }
  std::string text() const;  // JSON, with a hash (XXH3) of its content
  std::string hash() const;  // that hash, 16 hexadecimal digits
  // What a checkpoint says about its data: the hash, and the commit of each repository.
  nlohmann::json pin() const;
};

inline constexpr const char* kDataManifest = "data_manifest.json";  // its name in the run's folder

// Reads what text() wrote. Throws Error (bad_data) when it is damaged. `name` begins its messages.
DataManifest data_manifest_from_text(const std::string& text, const std::string& name);

// True when `a` comes before `b` in the order that a reader expects: numbers in names count as numbers, so example_2 comes
// before example_10.
bool in_natural_order(const std::string& a, const std::string& b);

}  // namespace echo
