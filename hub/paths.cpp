#include "hub/paths.h"

#include <cstdlib>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/transfer_progress.h"
#include "hub/download.h"

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

// ORGANISATION/NAME, the form of model names on the hub. A path that has two parts looks the same, so it is tried as a folder
// first.
std::optional<HubAddress> hub_name(const std::string& name) {
  if (name.front() == '.' || name.starts_with("models/") || name.starts_with("runs/")) return std::nullopt;
  try {
    const HubAddress address = parse_hub_address("hf://" + name);
    if (!address.path.empty()) return std::nullopt;
    return address;
  } catch (const Error&) {  // no name that the hub would accept
    return std::nullopt;
  }
}

fs::path model_from_hub(const HubAddress& address) {
  const HubSettings settings = read_hub_settings();
  TransferProgress shown(settings.show_progress);
  HubClient client(settings, [&](const std::string& line) { shown.print(line); });
  HubCache cache(settings.cache);
  return download_model(client, cache, address, [&](int64_t have, int64_t size) { shown.update(have, size); });
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
  if (is_hub_address(name_or_path)) {
    try {
      return model_from_hub(parse_hub_address(name_or_path));
    } catch (const Error& error) {
      fail(error.code(), key, ": ", error.what());
    }
  }
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
  const std::string missing = concat(key, ": ", name_or_path, ": no such folder (looked at ", names(tried), ")");
  const std::string remedy = concat("link a copy with `ln -s DIR ", target, "`, or name its folder with ", key, "=DIR");
  const auto address = hub_name(name_or_path);
  if (!address) fail(ExitCode::input_missing, missing, "; ", remedy);
  try {
    return model_from_hub(*address);
  } catch (const Error& error) {
    fail(error.code(), missing, ", and it cannot be fetched: ", error.what(), "; or ", remedy);
  }
}

}  // namespace echo
