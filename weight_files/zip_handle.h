#pragma once

#include <zip.h>

#include <filesystem>
#include <memory>
#include <string>

namespace echo {

struct ZipClose {
  void operator()(zip_t* zip) const { ::zip_discard(zip); }
  void operator()(zip_file_t* entry) const { ::zip_fclose(entry); }
};
using ZipHandle = std::unique_ptr<zip_t, ZipClose>;  // destroying it drops changes that zip_close has not written
using ZipEntryHandle = std::unique_ptr<zip_file_t, ZipClose>;

// Opens an archive with libzip's flags. On failure returns null, with the reason in `why`.
inline ZipHandle open_zip(const std::filesystem::path& path, int flags, std::string& why) {
  int code = 0;
  ZipHandle zip(::zip_open(path.c_str(), flags, &code));
  if (!zip) {
    zip_error_t error;
    ::zip_error_init_with_code(&error, code);
    why = ::zip_error_strerror(&error);
    ::zip_error_fini(&error);
  }
  return zip;
}

}  // namespace echo
