#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

// Builds zip archives of stored entries byte by byte, including invalid ones, to test the archive reader.
struct ZipEntry {
  std::string name, content;
  bool wrong_checksum = false;
};

inline uint32_t crc32_of(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= uint8_t(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

inline void put(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += char(value >> (8 * i));
}

// With zip64, every size and offset is written as in archives over 4 GiB: in 64-bit records, with all ones in the 32-bit
// fields.
inline std::string build_zip(const std::vector<ZipEntry>& entries, bool zip64) {
  std::string out, directory;
  const auto sizes = [&](std::string& to, const ZipEntry& entry) {
    for (int twice = 0; twice < 2; ++twice) put(to, zip64 ? 0xffffffffu : entry.content.size(), 4);
  };
  for (const ZipEntry& entry : entries) {
    const uint64_t offset = out.size();
    const uint32_t crc = entry.wrong_checksum ? 0xbadu : crc32_of(entry.content);
    out += "PK\x03\x04";
    put(out, 45, 2), put(out, 0, 2), put(out, 0, 2), put(out, 0, 2), put(out, 0x21, 2), put(out, crc, 4);
    sizes(out, entry);
    put(out, entry.name.size(), 2), put(out, zip64 ? 20 : 0, 2);
    out += entry.name;
    if (zip64) put(out, 1, 2), put(out, 16, 2), put(out, entry.content.size(), 8), put(out, entry.content.size(), 8);
    out += entry.content;

    directory += "PK\x01\x02";
    put(directory, 45, 2), put(directory, 45, 2), put(directory, 0, 2), put(directory, 0, 2), put(directory, 0, 2);
    put(directory, 0x21, 2), put(directory, crc, 4);
    sizes(directory, entry);
    put(directory, entry.name.size(), 2), put(directory, zip64 ? 28 : 0, 2), put(directory, 0, 2), put(directory, 0, 2);
    put(directory, 0, 2), put(directory, 0, 4), put(directory, zip64 ? 0xffffffffu : offset, 4);
    directory += entry.name;
    if (zip64) {
      put(directory, 1, 2), put(directory, 24, 2), put(directory, entry.content.size(), 8);
      put(directory, entry.content.size(), 8), put(directory, offset, 8);
    }
  }
  const uint64_t directory_offset = out.size();
  out += directory;
  if (zip64) {
    const uint64_t end_offset = out.size();
    out += "PK\x06\x06";
    put(out, 44, 8), put(out, 45, 2), put(out, 45, 2), put(out, 0, 4), put(out, 0, 4), put(out, entries.size(), 8);
    put(out, entries.size(), 8), put(out, directory.size(), 8), put(out, directory_offset, 8);
    out += "PK\x06\x07";
    put(out, 0, 4), put(out, end_offset, 8), put(out, 1, 4);
  }
  out += "PK\x05\x06";
  put(out, 0, 4), put(out, zip64 ? 0xffff : entries.size(), 2), put(out, zip64 ? 0xffff : entries.size(), 2);
  put(out, zip64 ? 0xffffffffu : directory.size(), 4), put(out, zip64 ? 0xffffffffu : directory_offset, 4), put(out, 0, 2);
  return out;
}

}  // namespace echo
