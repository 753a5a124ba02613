#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

// The data files on this machine for `path`, sorted by path. `path` is one of
// - a file;
// - a folder: all files in it and its sub-folders that end in .jsonl, .jsonl.zst or .txt (except hidden files and linked
// folders);
// - a shell pattern (* ? [ ]): all matches, including folders.
// Throws Error: input_missing when there is no file, bad_data when `path` is a single file of another kind.
std::vector<DataFile> find_data_files(const std::string& path);

// The source for this kind of file. Throws Error: bad_data when the name has another extension, and what DataFile::open throws.
std::unique_ptr<DocumentSource> open_document_source(const DataFile& file, const SetFilter& filter);

}  // namespace echo
