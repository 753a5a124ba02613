#include "hub/address.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "hub/url.h"

namespace echo {
namespace {

constexpr std::string_view kScheme = "hf://";

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  fail(ExitCode::usage, text, ": ", why,
       "; expected hf://[datasets/]ORGANISATION/NAME[@REVISION][/PATH], for example hf://TinyLlama/TinyLlama-1.1B-Chat-v1.0");
}

// Cuts off and returns the text up to the next '/'. Leaves `rest` empty when there is none.
std::string_view take_part(std::string_view& rest) {
  const size_t slash = std::min(rest.find('/'), rest.size());
  const std::string_view part = rest.substr(0, slash);
  rest.remove_prefix(std::min(slash + 1, rest.size()));
  return part;
}

// The hub's own rule for the two parts of a repository's name.
bool is_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= 96 && std::all_of(name.begin(), name.end(), allowed) && name.front() != '.' &&
         name.front() != '-' && name.back() != '.' && name.back() != '-' && name.find("..") == name.npos &&
         name.find("--") == name.npos;
}

// The revision after '@'. Only those of refs/pr/ and refs/convert/ have slashes.
std::string take_revision(std::string_view first, std::string_view& rest) {
  std::string revision(first);
  if (first == "refs" && (rest.starts_with("pr/") || rest.starts_with("convert/"))) {
    revision += "/" + std::string(take_part(rest));
    revision += "/" + std::string(take_part(rest));
  }
  return percent_decoded(revision);
}

}  // namespace

std::string HubRepository::address() const { return concat("hf://", is_dataset ? "datasets/" : "", name); }

std::string HubRepository::folder_name() const {
  std::string folder = concat(is_dataset ? "datasets--" : "models--", name);
  folder.replace(folder.find('/'), 1, "--");
  return folder;
}

std::string HubAddress::text() const {
  return concat(repository.address(), revision == "main" ? "" : "@" + percent_encoded(revision, revision.starts_with("refs/")),
                path.empty() ? "" : "/", path);
}

bool is_hub_address(const std::string& text) { return text.starts_with(kScheme); }

HubAddress parse_hub_address(const std::string& text) {
  if (!is_hub_address(text)) refuse(text, "does not begin with hf://");
  HubAddress address;
  std::string_view rest = std::string_view(text).substr(kScheme.size());
  std::string_view organisation = take_part(rest);
  if (organisation == "datasets" || organisation == "models") {
    address.repository.is_dataset = organisation == "datasets";
    organisation = take_part(rest);
  } else if (organisation == "spaces") {
    refuse(text, "spaces hold neither models nor data");
  }
  std::string_view name = take_part(rest);
  address.revision = "main";
  if (const size_t at = name.find('@'); at != name.npos) {
    address.revision = take_revision(name.substr(at + 1), rest);
    name = name.substr(0, at);
  }
  if (!is_name(organisation) || !is_name(name)) refuse(text, "does not name a repository");
  if (!is_safe_path(address.revision)) refuse(text, "has no usable revision after the @");
  address.repository.name = concat(organisation, "/", name);
  address.is_folder = rest.empty() || rest.ends_with('/');
  if (rest.ends_with('/')) rest.remove_suffix(1);
  address.path = rest;
  if (!rest.empty() && !is_safe_path(address.path)) refuse(text, "has a path with an empty part, . or ..");
  return address;
}

bool is_commit(const std::string& revision) {
  return revision.size() == 40 && revision.find_first_not_of("0123456789abcdef") == revision.npos;
}

bool is_safe_path(const std::string& path) {
  if (path.empty() || path.back() == '/' || path.find('\0') != path.npos) return false;
  for (std::string_view rest = path; !rest.empty();)
    if (const std::string_view part = take_part(rest); part.empty() || part == "." || part == "..") return false;
  return true;
}

}  // namespace echo
