#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace echo {

// A piece of YAML as written: no types are guessed, no keys are merged or dropped, no references are resolved. The reader of
// the values decides what each text means.
struct YamlNode {
  enum class Kind { null, scalar, list, mapping };
  Kind kind = Kind::null;
  int line = 0;         // from 1
  bool quoted = false;  // scalar in '...' or "..." or a block scalar: always text
  std::string text;     // of a scalar
  // a feature that is not allowed (alias, anchor, tag): what is wrong and what to write instead; otherwise empty
  std::string flaw;
  std::vector<YamlNode> items;                         // of a list
  std::vector<std::pair<YamlNode, YamlNode>> entries;  // of a mapping, in order, including duplicate keys
};

// The document, or an error: `error` says what is wrong and what is expected, `error_line` is its line (0: the whole text).
struct YamlDocument {
  YamlNode root;
  std::string error;
  int error_line = 0;
};

inline constexpr size_t kMaximumYamlBytes = 1 << 20;
inline constexpr int kMaximumYamlDepth = 16;  // nested lists and mappings

// Reads one YAML document with yaml-cpp. Errors are: more than kMaximumYamlBytes, bytes that are not UTF-8, control characters,
// tabs in the indentation, nesting deeper than kMaximumYamlDepth, a second document, and what yaml-cpp calls a syntax error.
// Anchors, aliases and tags set the flaw of their node. Never throws for bad text. An empty text gives a null root.
YamlDocument read_yaml(std::string_view text);

}  // namespace echo
