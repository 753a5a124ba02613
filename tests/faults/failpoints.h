#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace echo {

// The names of the operations on files in `folder` that `body` comes to, and how often it comes to each. Numbers and hashes in
// paths are replaced: "write checkpoint-N.tmp-N/model.safetensors".
using Points = std::map<std::string, int>;
Points points_of(const std::filesystem::path& folder, const std::function<void()>& body);

// Runs `body` in a process that dies, as by SIGKILL, when it comes to `point` for the n-th time. Expects that it does.
void die_at(const std::filesystem::path& folder, const std::string& point, int n, const std::function<void()>& body);

}  // namespace echo
