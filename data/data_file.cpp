#include "data/data_file.h"

#include <xxhash.h>

#include <algorithm>

#include "data/zstd_reader.h"

namespace echo {
namespace fs = std::filesystem;

DataFile local_data_file(const fs::path& path) {
  std::error_code failure;
  const uintmax_t size = fs::file_size(path, failure);
  return {path.string(), failure ? -1 : int64_t(size), [path] { return std::make_unique<FileReader>(path); }};
}

std::unique_ptr<ByteReader> open_content(const DataFile& file) {
  if (file.name.ends_with(".zst")) return std::make_unique<ZstdReader>(file.open(), file.name);
  return file.open();
}

uint64_t fingerprint_of_files(const std::vector<DataFile>& files) {
  // The folder that contains all of them may move between two runs.
  fs::path common = files.empty() ? fs::path() : fs::path(files.front().name).parent_path();
  for (const DataFile& file : files) {
    const fs::path path = file.name;
    while (!common.empty() && std::mismatch(common.begin(), common.end(), path.begin(), path.end()).first != common.end()) {
      if (common == common.parent_path()) break;
      common = common.parent_path();
    }
  }
  std::string description;
  for (const DataFile& file : files) {
    // Unsigned, so that an unknown size gives the same number as in runs of earlier versions.
    const std::string size = std::to_string(uint64_t(file.size));
    description += fs::path(file.name).lexically_relative(common).generic_string() + '\0' + size + '\0';
  }
  return XXH3_64bits(description.data(), description.size());
}

}  // namespace echo
