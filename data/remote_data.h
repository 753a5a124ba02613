#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/path_list.h"
#include "data/data_file.h"
#include "data/data_manifest.h"
#include "data/shard_store.h"

namespace echo {

// True for an address of data on another machine: hf://datasets/ORGANISATION/NAME[@REVISION][/PATH], where PATH is a file, a
// folder or a pattern, or http(s)://HOST/FILE.
bool is_remote(const std::string& entry);

// The data of a run that is on other machines: what there is (the manifest), and the store that fetches it. Several threads
// may use one object.
class RemoteData {
 public:
  RemoteData(DataManifest manifest, const ShardSettings& settings);

  const DataManifest& manifest() const { return manifest_; }

  // The data files of an address, sorted by path. Their names are addresses. Opening one waits until it is here. Throws Error
  // (input_missing) when there are none.
  std::vector<DataFile> files(const std::string& address) const;
  // True when the manifest has files in this folder of a repository.
  bool has_folder(const std::string& address, const std::string& folder) const;

  // Ends all transfers. Waiting for a file, and opening one later, throws Error (unavailable).
  void stop() { store_->stop(); }

 private:
  std::vector<Shard> shards(const std::string& address) const;

  DataManifest manifest_;
  std::shared_ptr<ShardStore> store_;
};

}  // namespace echo
