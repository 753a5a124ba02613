#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/faults/file_calls.h"

namespace echo {

// The calls of a process that changed files, with the bytes that it wrote.
struct RecordedCall {
  FileCall::Kind kind;
  std::filesystem::path path, target;
  std::string bytes;
};
std::vector<RecordedCall> record_calls(const std::filesystem::path& folder, const std::function<void()>& body);

// What a power loss leaves of a change that no fsync has made durable. A write needs one of its file, and a new, renamed or
// removed name needs one of the folder that it is in.
enum class Unsynced {
  lost,             // all of them
  names_only,       // names are there, and files are empty
  names_and_half,   // names are there, with the first half of each write
  names_and_zeros,  // names are there, and each write has its length, but the second half of it are zeros
  kept,             // all of them: the process died, and the system did not
  random            // each of them is one of the above, by a seed
};

// Changes the files in `folder` to what a disk may hold when the power fails after the first `count` of the calls. When the
// first call was made, the files were as they are now.
void lose_power(const std::vector<RecordedCall>& calls, size_t count, Unsynced unsynced, uint64_t seed = 0);

}  // namespace echo
