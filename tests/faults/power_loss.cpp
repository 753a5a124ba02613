#include "tests/faults/power_loss.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "base/random.h"

namespace echo {
namespace {

namespace fs = std::filesystem;
using Kind = FileCall::Kind;

bool is_durable(const std::vector<RecordedCall>& calls, size_t index, size_t count) {
  const RecordedCall& call = calls[index];
  const fs::path needed = call.kind == Kind::write ? call.path : call.path.parent_path();
  for (size_t i = index + 1; i < count; ++i)
    if (calls[i].kind == Kind::sync && calls[i].path == needed) return true;
  return false;
}

// Applies a change. One that needs an earlier change that is lost has no effect.
void apply(const RecordedCall& call, Unsynced unsynced) {
  std::error_code ignored;
  if (call.kind == Kind::write) {
    if (!fs::exists(call.path) || unsynced == Unsynced::names_only) return;
    std::string bytes = call.bytes;
    const size_t half = bytes.size() / 2;
    if (unsynced == Unsynced::names_and_half) bytes.resize(half);
    if (unsynced == Unsynced::names_and_zeros) bytes.replace(half, std::string::npos, bytes.size() - half, '\0');
    std::ofstream(call.path, std::ios::app | std::ios::binary) << bytes;
  } else if (call.kind == Kind::make_folder) {
    fs::create_directory(call.path, ignored);
  } else if (call.kind == Kind::create) {
    if (fs::exists(call.path.parent_path()) && !fs::exists(call.path)) std::ofstream(call.path).flush();
  } else if (call.kind == Kind::rename) {
    fs::rename(call.path, call.target, ignored);
  } else if (call.kind == Kind::exchange) {
    ::renameat2(AT_FDCWD, call.path.c_str(), AT_FDCWD, call.target.c_str(), RENAME_EXCHANGE);
  } else if (call.kind == Kind::remove) {
    fs::remove(call.path, ignored);
  }
}

}  // namespace

std::vector<RecordedCall> record_calls(const fs::path& folder, const std::function<void()>& body) {
  std::vector<RecordedCall> calls;
  const FileCallWatch watch(folder, [&](const FileCall& call) {
    if (call.kind != Kind::read) calls.push_back({call.kind, call.path, call.target, std::string(call.bytes)});
    return FileCallResult{};
  });
  body();
  return calls;
}

void lose_power(const std::vector<RecordedCall>& calls, size_t count, Unsynced unsynced, uint64_t seed) {
  RandomSequence random(seed, /*stream=*/count);
  for (size_t i = 0; i < count; ++i) {
    if (calls[i].kind == Kind::sync) continue;
    Unsynced fate = is_durable(calls, i, count) ? Unsynced::kept : unsynced;
    if (fate == Unsynced::random) fate = Unsynced(random.below(5));
    if (fate != Unsynced::lost) apply(calls[i], fate);
  }
}

}  // namespace echo
