#include "data/data_manifest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hub/content_hash.h"

namespace echo {
namespace {

using nlohmann::json;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

json content_of(const DataManifest& manifest) {
  json sources = json::array(), urls = json::array();
  for (const ManifestSource& source : manifest.sources) {
    json files = json::array();
    for (const ListedFile& file : source.files) files.push_back({file.path, file.size, file.etag});
    sources.push_back({{"repository", source.repository.address()},
                       {"revision", source.revision},
                       {"commit", source.commit},
                       {"files", std::move(files)}});
  }
  for (const UrlFile& url : manifest.urls) urls.push_back({url.url, url.size, url.version});
  return {{"format", 1}, {"addresses", manifest.addresses}, {"sources", std::move(sources)}, {"urls", std::move(urls)}};
}

std::string hash_of(const json& content) {
  const std::string text = content.dump();
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

ManifestSource source_from(const json& from) {
  ManifestSource source;
  source.repository = parse_hub_address(from.at("repository").get<std::string>()).repository;
  source.revision = from.at("revision");
  source.commit = from.at("commit");
  for (const json& row : from.at("files")) source.files.push_back({row.at(0), row.at(1), row.at(2)});
  return source;
}

}  // namespace

std::string DataManifest::text() const {
  json content = content_of(*this);
  const std::string hash = hash_of(content);
  content["xxh3"] = hash;
  return content.dump() + "\n";
}

std::string DataManifest::hash() const { return hash_of(content_of(*this)); }

json DataManifest::pin() const {
  json commits = json::array();
  for (const ManifestSource& source : sources)
    commits.push_back(
        {{"repository", HubAddress{source.repository, source.revision, "", true}.text()}, {"commit", source.commit}});
  return {{"manifest", hash()}, {"commits", std::move(commits)}};
}

DataManifest data_manifest_from_text(const std::string& text, const std::string& name) {
  json content = json::parse(text, nullptr, false);
  if (!content.is_object()) fail(ExitCode::bad_data, name, ": damaged: not a JSON object");
  try {
    const std::string hash = content.at("xxh3");
    content.erase("xxh3");
    if (hash_of(content) != hash) fail(ExitCode::bad_data, name, ": damaged: its content does not have its hash");
    if (content.at("format") != 1) fail(ExitCode::bad_data, name, ": format ", content.at("format").dump(), ", expected 1");
    DataManifest manifest;
    content.at("addresses").get_to(manifest.addresses);
    for (const json& source : content.at("sources")) manifest.sources.push_back(source_from(source));
    for (const json& url : content.at("urls")) manifest.urls.push_back({url.at(0), url.at(1), url.at(2)});
    return manifest;
  } catch (const json::exception& error) {
    fail(ExitCode::bad_data, name, ": damaged: ", error.what());
  }
}

bool in_natural_order(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      const size_t first = i, second = j;
      while (i < a.size() && is_digit(a[i])) ++i;
      while (j < b.size() && is_digit(b[j])) ++j;
      const std::string number(a, first, i - first), other(b, second, j - second);
      const auto without_zeros = [](const std::string& digits) {
        return digits.substr(std::min(digits.find_first_not_of('0'), digits.size() - 1));
      };
      const std::string x = without_zeros(number), y = without_zeros(other);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i;
      ++j;
    }
  }
  if (i == a.size() && j == b.size()) return a < b;  // they differ in leading zeros only, or not at all
  return i == a.size();
}

}  // namespace echo
