#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/document_source.h"

namespace echo {

// The data files that `path` means, sorted by path: a file; all files of a folder and the folders in it (hidden ones and linked
// folders left out) that end in .jsonl, .jsonl.zst or .txt; or what a shell pattern (* ? [ ]) matches, folders included.
// Throws Error: input_missing when there is none, bad_data for a single file of another kind.
std::vector<std::filesystem::path> find_data_files(const std::string& path);

// The source that reads this kind of file.
std::unique_ptr<DocumentSource> open_document_source(const std::filesystem::path& file, const SetFilter& filter);

// A number that changes when names (relative to their common folder), sizes or the number of the files do: a saved position
// in the files is meaningless then.
uint64_t fingerprint_of_files(const std::vector<std::filesystem::path>& files);

}  // namespace echo
