#pragma once

#include <cstring>
#include <initializer_list>
#include <string>

namespace echo {

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
