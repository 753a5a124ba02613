#include "hub/paths.h"

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"

namespace echo {
namespace {

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// The path itself and, if it is relative, the path in each shared folder.
std::vector<fs::path> places(const fs::path& path) {
  std::vector<fs::path> all = {path};
  if (path.is_relative())
    for (const fs::path& folder : shared_folders()) all.push_back(folder / path);
  return all;
}

std::string names(const std::vector<fs::path>& paths) {
  std::string text;
  for (const fs::path& path : paths) text += (text.empty() ? "" : ", ") + path.string();
  return text;
}

// ORGANISATION/NAME, the form of model names on the hub, in contrast to a path that has two parts.
bool is_hub_name(const std::string& name) {
  const size_t slash = name.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < name.size() && name.find('/', slash + 1) == std::string::npos &&
         name.front() != '.' && !name.starts_with("models/") && !name.starts_with("runs/");
}

}  // namespace

std::vector<fs::path> shared_folders() {
  std::vector<fs::path> folders;
  if (const char* named = std::getenv("ECHOATT_SHARED"); named != nullptr && *named != '\0') folders.push_back(named);
  folders.push_back("../shared");
  return folders;
}

fs::path resolve_input(const std::string& path, const std::string& key) {
  if (path.empty()) fail(ExitCode::input_missing, key, ": is empty; the path of a file or folder is expected");
  for (const fs::path& place : places(path))
    if (is_there(place)) return place;
  // The folders before the first part with a wildcard must exist. The reader of the glob checks what it matches.
  fs::path fixed, pattern;
  for (const fs::path& part : fs::path(path))
    (!pattern.empty() || part.string().find_first_of("*?[") != std::string::npos ? pattern : fixed) /= part;
  if (!pattern.empty())
    for (const fs::path& place : places(fixed.empty() ? fs::path(".") : fixed))
      if (is_folder(place)) return place / pattern;
  fail(ExitCode::input_missing, key, ": ", path, ": no such file or folder (looked at ", names(places(path)),
       "); give its path with ", key, "=PATH, make a link of that name, or set ECHOATT_SHARED to the folder that holds it");
}

fs::path resolve_model(const std::string& name_or_path, const std::string& key) {
  if (name_or_path.empty()) fail(ExitCode::input_missing, key, ": is empty; the folder of a model is expected");
  const fs::path given(name_or_path);
  const fs::path last = given.filename().empty() ? given.parent_path().filename() : given.filename();  // a/b/ means a/b
  std::vector<fs::path> tried;
  std::vector<fs::path> variants = {given};
  if (given.is_relative()) {
    for (const fs::path& more : {fs::path("models") / given, fs::path("models") / last})
      if (*given.begin() != "models") variants.push_back(more);
    if (variants.size() == 3 && variants[1] == variants[2]) variants.pop_back();
  }
  const size_t rounds = places(given).size();
  for (size_t round = 0; round < rounds; ++round)  // all variants in one place before the next place
    for (const fs::path& variant : variants) {
      tried.push_back(places(variant)[round]);
      if (is_folder(tried.back())) return tried.back();
    }
  const std::string target = "models/" + last.string();
  const std::string download = is_hub_name(name_or_path)
                                   ? concat("download it with `hf download ", name_or_path, " --local-dir ", target,
                                            "` (pip install huggingface_hub), or ")
                                   : std::string();
  fail(ExitCode::input_missing, key, ": ", name_or_path, ": no such folder (looked at ", names(tried), "); ", download,
       "link a copy with `ln -s DIR ", target, "`, or name its folder with ", key, "=DIR");
}

}  // namespace echo
