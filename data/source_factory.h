#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/path_list.h"
#include "data/data_file.h"
#include "data/document_source.h"

namespace echo {

class RemoteData;

// The data files of `paths`, entry after entry, those of one entry sorted by path, each file once. An entry is one of
// - a file;
// - a folder: all files in it and its sub-folders that end in .jsonl, .jsonl.zst or .txt (except hidden files and linked
// folders);
// - a shell pattern (* ? [ ]): all matches, including folders;
// - an address (is_remote) of one of these, which `remote` knows.
// Throws Error: input_missing when an entry has no file, bad_data when it is a single file of another kind.
std::vector<DataFile> find_data_files(const PathList& paths, const RemoteData* remote = nullptr);

// True when a file of this name can be read.
bool is_data_file(const std::string& name);

// The source for this kind of file. Throws Error: bad_data when the name has another extension, and what DataFile::open throws.
std::unique_ptr<DocumentSource> open_document_source(const DataFile& file, const SetFilter& filter);

}  // namespace echo
