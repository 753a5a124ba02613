#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace echo {

// A piece of YAML as it is written: no types are guessed, no keys merged or dropped, no references followed; the reader
// of the values decides what each text means.
struct YamlNode {
  enum class Kind { null, scalar, list, mapping };
  Kind kind = Kind::null;
  int line = 0;         // from 1
  bool quoted = false;  // scalar in '...' or "..." or a block scalar: text, whatever it looks like
  std::string text;     // of a scalar
  std::string flaw;     // a feature that is refused (alias, anchor, tag): what is wrong and what to write instead; else empty
  std::vector<YamlNode> items;                         // of a list
  std::vector<std::pair<YamlNode, YamlNode>> entries;  // of a mapping, in order; duplicate keys are all there
};

// The document, or why there is none: `error` says what is wrong and what is expected, in `error_line` (0: the whole
// text).
struct YamlDocument {
  YamlNode root;
  std::string error;
  int error_line = 0;
};

inline constexpr size_t kMaximumYamlBytes = 1 << 20;
inline constexpr int kMaximumYamlDepth = 16;  // nested lists and mappings

// Reads one YAML document with yaml-cpp. Refused: over kMaximumYamlBytes, bytes that are not UTF-8, control characters,
// tabs in an indentation, deeper nesting than kMaximumYamlDepth, a second document, and what yaml-cpp calls a syntax
// error. Anchors, aliases and tags leave a flaw in their node. Never throws for a bad text. An empty text is a null
// root.
YamlDocument read_yaml(std::string_view text);

}  // namespace echo
