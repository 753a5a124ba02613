#pragma once

#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

namespace echo {

// A system call of this process that reads or changes a file or a folder.
struct FileCall {
  enum class Kind { make_folder, create, read, write, sync, rename, exchange, remove };
  Kind kind;
  std::filesystem::path path;    // absolute
  std::filesystem::path target;  // of rename and exchange
  std::string_view bytes;        // of write
};
const char* name_of(FileCall::Kind kind);

// What becomes of a call: it fails with an error number (ENOSPC, ...), or a write is shortened.
struct FileCallResult {
  int error = 0;
  size_t most_bytes = std::numeric_limits<size_t>::max();
};

// While an object of this class lives, `watch` is called before every call in `folder`, by one thread at a time, and says what
// becomes of it. Calls that `watch` itself makes are not watched. At most one object may exist.
// The program of the tests defines write(), fsync(), rename() and the like itself, so the calls of the code under test and of
// the standard library for C++ come to it. The code under test does not know of this. Calls from inside the C library do not
// come to it, for example those of fopen() and fwrite().
class FileCallWatch {
 public:
  using Watch = std::function<FileCallResult(const FileCall&)>;
  FileCallWatch(std::filesystem::path folder, Watch watch);
  ~FileCallWatch();
  FileCallWatch(const FileCallWatch&) = delete;
  FileCallWatch& operator=(const FileCallWatch&) = delete;
};

}  // namespace echo
