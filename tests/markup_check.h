#pragma once

#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace echo {

// What keeps `text` from being one well-formed XML element (after an optional declaration), or "": tags balance,
// attributes are quoted and distinct, & begins one of the entities that XML knows, < appears in tags only. The
// content of script and style must not hold < or &. Enough to catch a forgotten escape; no validation of names.
inline std::string markup_problem(std::string_view text) {
  std::vector<std::string> open;
  bool root_seen = false;
  const auto entity_ends = [&](size_t at) -> size_t {  // position after ';', or npos
    const size_t end = text.find(';', at);
    if (end == std::string_view::npos || end - at > 8) return std::string_view::npos;
    const std::string_view name = text.substr(at + 1, end - at - 1);
    const bool known = name == "amp" || name == "lt" || name == "gt" || name == "quot" || name == "#39";
    return known ? end + 1 : std::string_view::npos;
  };
  for (size_t at = 0; at < text.size();) {
    const std::string near = " near: " + std::string(text.substr(at, 60));
    if (text[at] == '&') {
      at = entity_ends(at);
      if (at == std::string_view::npos) return "unknown entity" + near;
      continue;
    }
    if (text[at] != '<') {
      if (open.empty() && !std::isspace(static_cast<unsigned char>(text[at]))) return "text outside the root" + near;
      ++at;
      continue;
    }
    if (text.substr(at, 2) == "<?" || text.substr(at, 9) == "<!DOCTYPE") {
      at = text.find('>', at);
      if (at == std::string_view::npos || root_seen) return "misplaced declaration" + near;
      ++at;
      continue;
    }
    const bool closing = text.substr(at, 2) == "</";
    size_t end = at + (closing ? 2 : 1);
    std::string name;
    while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) != 0)) name += text[end++];
    if (name.empty()) return "< without a tag" + near;
    std::vector<std::string> attributes;
    while (end < text.size() && text[end] != '>' && text.substr(end, 2) != "/>") {
      if (std::isspace(static_cast<unsigned char>(text[end]))) {
        ++end;
        continue;
      }
      std::string attribute;
      while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '-' || text[end] == ':'))
        attribute += text[end++];
      if (attribute.empty() || text.substr(end, 2) != "=\"") return "attribute without quotes" + near;
      for (const std::string& other : attributes)
        if (other == attribute) return "attribute given twice" + near;
      attributes.push_back(attribute);
      for (end += 2; end < text.size() && text[end] != '"';) {
        if (text[end] == '<') return "< in an attribute" + near;
        if (text[end] == '&') {
          end = entity_ends(end);
          if (end == std::string_view::npos) return "unknown entity in an attribute" + near;
        } else {
          ++end;
        }
      }
      ++end;
    }
    if (end >= text.size()) return "unfinished tag" + near;
    const bool empty = text[end] == '/';
    at = end + (empty ? 2 : 1);
    if (closing) {
      if (open.empty() || open.back() != name) return "unexpected closing tag" + near;
      open.pop_back();
    } else {
      if (open.empty() && root_seen) return "second root" + near;
      root_seen = true;
      if (!empty) open.push_back(name);
    }
  }
  if (!open.empty()) return "not closed: " + open.back();
  return root_seen ? "" : "no element";
}

}  // namespace echo
