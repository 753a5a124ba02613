#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

// The data files on this machine that `path` means, sorted by path. `path` is one of
// - a file;
// - a folder: all files in it and in its sub-folders that end in .jsonl, .jsonl.zst or .txt (hidden files and linked folders
//   are left out);
// - a shell pattern (* ? [ ]): what it matches, folders included.
// Throws Error: input_missing when there is none, bad_data when `path` is a single file of another kind.
std::vector<DataFile> find_data_files(const std::string& path);

// The source that reads this kind of file. Throws Error: bad_data when the name has another ending, and as DataFile::open.
std::unique_ptr<DocumentSource> open_document_source(const DataFile& file, const SetFilter& filter);

}  // namespace echo
