#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace echo {

// Removes an old file first: ext4 waits for the disk when a file is truncated and written again.
inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
}

template <class T>
std::string bytes_of_values(std::initializer_list<T> values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

// A safetensors file with this header and `data` bytes 0, 1, 2, ...
inline std::string safetensors_bytes(const std::string& header, size_t data) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  bytes += header;
  for (size_t i = 0; i < data; ++i) bytes += char(i);
  return bytes;
}

}  // namespace echo
