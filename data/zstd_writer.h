#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace echo {

// `content` as one zstd frame with a checksum. Throws Error (device) when there is not enough memory.
std::string compress_zstd(std::string_view content, int level = 3);

}  // namespace echo
