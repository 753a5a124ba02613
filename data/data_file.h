#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/byte_reader.h"

namespace echo {

// One data file, on any kind of storage. Sources read it through `open` and use no paths.
struct DataFile {
  std::string name;   // its name in errors; the extension determines the format (data/source_factory.h)
  int64_t size = -1;  // bytes as stored; -1 when unknown
  // The stored bytes, from the first one. May be called several times, and from other threads.
  // Throws Error, input_missing when the file cannot be opened, and FileUnavailable.
  std::function<std::unique_ptr<ByteReader>()> open;
  // May be empty. Says that `open` will be called soon: a file of another machine is then fetched meanwhile. Does not wait.
  std::function<void()> expect = {};
};

// A file of another machine cannot be had, although it should be there: the network fails (unavailable), or its content arrives
// damaged (bad_data). Thrown by DataFile::open. Reading may go on without this file.
class FileUnavailable : public Error {
 public:
  using Error::Error;
};

// A file on this machine. Does not throw: a missing file is noticed when it is opened.
DataFile local_data_file(const std::filesystem::path& path);

// The file's content from the first byte, decompressed when its name ends in .zst. Throws as DataFile::open.
std::unique_ptr<ByteReader> open_content(const DataFile& file);

// A number that changes when the names (relative to their common folder), the sizes or the number of files change. A position
// is valid only for files with the same fingerprint.
uint64_t fingerprint_of_files(const std::vector<DataFile>& files);

}  // namespace echo
