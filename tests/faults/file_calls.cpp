#include "tests/faults/file_calls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <mutex>

#include "base/error.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

struct Watched {
  fs::path folder;
  FileCallWatch::Watch watch;
  std::mutex mutex;
};
std::atomic<Watched*> watched = nullptr;
thread_local bool inside_watch = false;

bool is_watched() { return watched.load(std::memory_order_relaxed) != nullptr && !inside_watch; }

// Runs `body` without watching its calls. errno stays as it was.
template <class Body>
auto unwatched(const Body& body) {
  const int number = errno;
  inside_watch = true;
  auto result = body();
  inside_watch = false;
  errno = number;
  return result;
}

fs::path path_of(int descriptor) {
  char path[4096];
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), path, sizeof path);
  return length > 0 ? fs::path(std::string(path, size_t(length))) : fs::path();
}

fs::path path_in(int folder, const char* path) {
  if (folder == AT_FDCWD || path[0] == '/') return fs::absolute(path);
  return path_of(folder) / path;
}

FileCallResult ask(const std::function<FileCall()>& describe) {
  return unwatched([&]() -> FileCallResult {
    const FileCall call = describe();
    Watched* const now = watched.load();
    if (now == nullptr || !call.path.string().starts_with(now->folder.string())) return {};
    const std::lock_guard lock(now->mutex);
    return now->watch(call);
  });
}

// Calls `real` unless the call is to fail.
template <class Describe, class Real>
auto guarded(const Describe& describe, const Real& real) -> decltype(real()) {
  if (!is_watched()) return real();
  if (const int error = ask(describe).error; error != 0) {
    errno = error;
    return -1;
  }
  return real();
}

template <class Function>
Function* original(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

const char* name_of(FileCall::Kind kind) {
  static constexpr const char* kNames[] = {"make_folder", "create", "read", "write", "sync", "rename", "exchange", "remove"};
  return kNames[size_t(kind)];
}

FileCallWatch::FileCallWatch(fs::path folder, Watch watch) {
  ECHO_CHECK(watched.load() == nullptr, "FileCallWatch: there is one already");
  Watched* const made = new Watched;
  made->folder = fs::absolute(folder);
  made->watch = std::move(watch);
  watched = made;
}

FileCallWatch::~FileCallWatch() { delete watched.exchange(nullptr); }

}  // namespace echo

// ---- what other code calls -------------------------------------------------------------------------------------------------

using echo::FileCall;
using Kind = echo::FileCall::Kind;

#define ORIGINAL(function) static const auto real = echo::original<decltype(::function)>(#function)

extern "C" {

int open(const char* path, int flags, ...) {
  ORIGINAL(open);
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & O_CREAT) == 0) return real(path, flags, mode);
  return echo::guarded(
      [&] {
        return FileCall{Kind::create, echo::path_in(AT_FDCWD, path), {}, {}};
      },
      [&] { return real(path, flags, mode); });
}

ssize_t read(int descriptor, void* bytes, size_t count) {
  ORIGINAL(read);
  return echo::guarded(
      [&] {
        return FileCall{Kind::read, echo::path_of(descriptor), {}, {}};
      },
      [&] { return real(descriptor, bytes, count); });
}

ssize_t write(int descriptor, const void* bytes, size_t count) {
  ORIGINAL(write);
  if (!echo::is_watched()) return real(descriptor, bytes, count);
  const auto result = echo::ask([&] {
    return FileCall{Kind::write, echo::path_of(descriptor), {}, {static_cast<const char*>(bytes), count}};
  });
  if (result.error == 0) return real(descriptor, bytes, std::min(count, result.most_bytes));
  errno = result.error;
  return -1;
}

int fsync(int descriptor) {
  ORIGINAL(fsync);
  return echo::guarded(
      [&] {
        return FileCall{Kind::sync, echo::path_of(descriptor), {}, {}};
      },
      [&] { return real(descriptor); });
}

int rename(const char* from, const char* to) noexcept {
  ORIGINAL(rename);
  return echo::guarded(
      [&] {
        return FileCall{Kind::rename, echo::path_in(AT_FDCWD, from), echo::path_in(AT_FDCWD, to), {}};
      },
      [&] { return real(from, to); });
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned int flags) noexcept {
  ORIGINAL(renameat2);
  return echo::guarded(
      [&] {
        return FileCall{(flags & RENAME_EXCHANGE) != 0 ? Kind::exchange : Kind::rename,
                        echo::path_in(from_folder, from),
                        echo::path_in(to_folder, to),
                        {}};
      },
      [&] { return real(from_folder, from, to_folder, to, flags); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  ORIGINAL(mkdir);
  return echo::guarded(
      [&] {
        return FileCall{Kind::make_folder, echo::path_in(AT_FDCWD, path), {}, {}};
      },
      [&] { return real(path, mode); });
}

int remove(const char* path) noexcept {
  ORIGINAL(remove);
  return echo::guarded(
      [&] {
        return FileCall{Kind::remove, echo::path_in(AT_FDCWD, path), {}, {}};
      },
      [&] { return real(path); });
}

int unlink(const char* path) noexcept {
  ORIGINAL(unlink);
  return echo::guarded(
      [&] {
        return FileCall{Kind::remove, echo::path_in(AT_FDCWD, path), {}, {}};
      },
      [&] { return real(path); });
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  ORIGINAL(unlinkat);
  return echo::guarded(
      [&] {
        return FileCall{Kind::remove, echo::path_in(folder, path), {}, {}};
      },
      [&] { return real(folder, path, flags); });
}

}  // extern "C"
