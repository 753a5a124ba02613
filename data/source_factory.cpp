#include "data/source_factory.h"

#include <glob.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "base/error.h"
#include "data/jsonl_source.h"
#include "data/remote_data.h"
#include "data/text_source.h"

namespace echo {
namespace fs = std::filesystem;
namespace {

struct Format {
  std::string_view ending;
  std::unique_ptr<DocumentSource> (*open)(const DataFile&, const SetFilter&);
};

template <class Source>
std::unique_ptr<DocumentSource> open_as(const DataFile& file, const SetFilter& filter) {
  return std::make_unique<Source>(file, filter);
}

// One line per kind of file.
const std::vector<Format>& formats() {
  static const std::vector<Format> kFormats = {
      {".jsonl", open_as<JsonlSource>},
      {".jsonl.zst", open_as<JsonlSource>},
      {".txt", open_as<TextSource>},
  };
  return kFormats;
}

const Format* format_of(const fs::path& name_or_path) {
  const std::string name = name_or_path.filename().string();
  for (const Format& format : formats())
    if (name.size() > format.ending.size() && name.ends_with(format.ending)) return &format;
  return nullptr;
}

std::string endings() {
  std::string text;
  for (const Format& format : formats()) text += (text.empty() ? "" : ", ") + std::string(format.ending);
  return text;
}

void add_folder(const fs::path& folder, std::vector<fs::path>& files) {
  for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator(); ++entry) {
    const bool hidden = entry->path().filename().string().starts_with('.');
    if (hidden && entry->is_directory()) entry.disable_recursion_pending();
    if (!hidden && format_of(entry->path()) && entry->is_regular_file()) files.push_back(entry->path());
  }
}

std::vector<fs::path> glob_matches(const std::string& pattern) {
  glob_t found{};
  std::vector<fs::path> paths;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return paths;
}

std::vector<DataFile> find_local_files(const std::string& path) {
  std::vector<fs::path> files;
  std::error_code ignored;
  const bool is_pattern = path.find_first_of("*?[") != std::string::npos;
  try {
    if (fs::is_directory(path, ignored)) {
      add_folder(path, files);
    } else if (fs::exists(path, ignored)) {
      if (!format_of(path))
        fail(ExitCode::bad_data, path, ": this kind of data file is not supported; supported are ", endings());
      files.push_back(path);
    } else if (is_pattern) {
      for (const fs::path& match : glob_matches(path)) {
        if (fs::is_directory(match))
          add_folder(match, files);
        else if (format_of(match))
          files.push_back(match);
      }
    } else {
      fail(ExitCode::input_missing, path, ": there is no such file or folder");
    }
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::input_missing, path, ": cannot be listed: ", error.code().message());
  }
  if (files.empty())
    fail(ExitCode::input_missing, path, is_pattern ? ": no data file matches" : ": no data file in this folder",
         " (files ending in ", endings(), ")");
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  std::vector<DataFile> data_files;
  data_files.reserve(files.size());
  for (const fs::path& file : files) data_files.push_back(local_data_file(file));
  return data_files;
}

}  // namespace

bool is_data_file(const std::string& name) { return format_of(name) != nullptr; }

std::vector<DataFile> find_data_files(const PathList& paths, const RemoteData* remote) {
  if (paths.empty()) fail(ExitCode::input_missing, "data: there is no such file or folder");
  std::vector<DataFile> files;
  std::set<std::string> names;
  for (const std::string& entry : paths.entries) {
    ECHO_CHECK(remote != nullptr || !is_remote(entry), entry, ": nobody has looked for it");
    for (DataFile& file : is_remote(entry) ? remote->files(entry) : find_local_files(entry))
      if (names.insert(file.name).second) files.push_back(std::move(file));
  }
  return files;
}

std::unique_ptr<DocumentSource> open_document_source(const DataFile& file, const SetFilter& filter) {
  const Format* format = format_of(file.name);
  if (!format) fail(ExitCode::bad_data, file.name, ": this kind of data file is not supported; supported are ", endings());
  return format->open(file, filter);
}

}  // namespace echo
