#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "hub/address.h"
#include "hub/file_download.h"

namespace echo {

// What an address names, in the cache.
struct Downloaded {
  std::filesystem::path path;  // the file or folder
  std::string commit;
  std::vector<std::string> files;  // paths below `path`; empty when `path` is a file
};

// Brings a file, a folder or a repository into the cache. `progress` receives the bytes that are there and those of all files.
// Offline it takes what the cache has. Throws what download_file and list_files throw.
Downloaded download(HubClient& client, HubCache& cache, const HubAddress& address, const ByteProgress& progress);

// The folder of a model in the cache, for programs that read models: config, tokenizer and one format of the weights
// (safetensors if there is one) are brought there. When the hub cannot be reached, or offline, what the cache has is used.
// Throws Error: input_missing when that is nothing, and what download_file throws.
std::filesystem::path download_model(HubClient& client, HubCache& cache, const HubAddress& address,
                                     const ByteProgress& progress);

// Copies what was downloaded to `output`: a file to a file (or into an existing folder), a folder to a folder. Each file
// appears by one rename, when all of it is there. Returns the path of the copy. Throws Error (io).
std::filesystem::path copy_to(const Downloaded& downloaded, const std::filesystem::path& output);

}  // namespace echo
