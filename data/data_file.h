#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/byte_reader.h"

namespace echo {

// One file of data, wherever it is kept. Sources read it through `open` and know no paths.
struct DataFile {
  std::string name;   // what errors call it; its ending tells the format (data/source_factory.h)
  int64_t size = -1;  // bytes as stored; -1 when unknown
  // The bytes as they are stored, from the first one. May be called again, from another thread too.
  // Throws Error, input_missing when the file cannot be opened.
  std::function<std::unique_ptr<ByteReader>()> open;
};

// A file on this machine. Throws nothing: a missing file is found when it is opened.
DataFile local_data_file(const std::filesystem::path& path);

// The file's content from the first byte, decompressed when its name ends in .zst. Throws as DataFile::open.
std::unique_ptr<ByteReader> open_content(const DataFile& file);

// A number that changes when the names (relative to their common folder), the sizes or the number of the files change.
// A position saved for other files means nothing in these.
uint64_t fingerprint_of_files(const std::vector<DataFile>& files);

}  // namespace echo
