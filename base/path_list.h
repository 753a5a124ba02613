#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace echo {

// One or several places where something is: files, folders, patterns, addresses. One text is a list of one.
struct PathList {
  std::vector<std::string> entries;  // none of them is empty

  PathList() = default;
  PathList(std::string entry) {
    if (!entry.empty()) entries.push_back(std::move(entry));
  }
  PathList(const char* entry) : PathList(std::string(entry)) {}
  PathList(const std::filesystem::path& entry) : PathList(entry.string()) {}

  bool empty() const { return entries.empty(); }
  std::string text() const {  // for messages
    std::string joined;
    for (const std::string& entry : entries) joined += (joined.empty() ? "" : ", ") + entry;
    return joined;
  }
  friend bool operator==(const PathList&, const PathList&) = default;
};

}  // namespace echo
