#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "config/yaml_reader.h"

namespace echo {

// One value of the configuration, from YAML and back. Each read_value assigns `value` and returns "". Or it leaves `value`
// unchanged and returns a message: what is wrong, what is expected, and the remedy ("two words" is not a number; a number such
// as 0.5 or 1e-4 is expected). The rules are stricter than YAML's, so that no value is silently read as another one:
//   true or false      nothing else (no yes, on, True, 1, "true")
//   whole numbers      decimal, 64 bits; also 3.7e9 or 2.0 when exactly whole; no leading zero, 0x, 0o or underscore
//   numbers            decimal, finite, not rounded to 0 or infinity
//   text               what YAML would read as a number, a truth value or nothing needs quotes; no control characters
//   lists              of the above, in [a, b] or as lines "- a"
//   numbers by name    in {a: 1, b: 0.5} or as lines "a: 1"
//   one of some names  exactly one of them, quoted or not
std::string read_value(const YamlNode& node, bool& value);
std::string read_value(const YamlNode& node, int64_t& value);
std::string read_value(const YamlNode& node, double& value);
std::string read_value(const YamlNode& node, std::string& value);
std::string read_value(const YamlNode& node, std::vector<int64_t>& value);
std::string read_value(const YamlNode& node, std::vector<std::string>& value);
std::string read_value(const YamlNode& node, std::map<std::string, double>& value);
std::string read_value(const YamlNode& node, PathList& value);  // a text or a list of texts

// The value as one line of YAML. read_value() of it gives exactly the same value.
std::string print_value(bool value);
std::string print_value(int64_t value);
std::string print_value(double value);
std::string print_value(const std::string& value);
std::string print_value(const std::vector<int64_t>& value);
std::string print_value(const std::vector<std::string>& value);
std::string print_value(const std::map<std::string, double>& value);
std::string print_value(const PathList& value);

// `text` in double quotes, shortened to about 60 bytes and without control characters: for messages.
std::string quote(std::string_view text);

// The smallest number of insertions, deletions, replacements and swaps of neighbours that turns one text into the other (each
// pair of neighbours is swapped at most once). Both texts are cut to 100 bytes first.
int edit_distance(std::string_view a, std::string_view b);

// The known name nearest to `name`, or "" when none is near: at most a third of its letters, or 2, may differ.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

namespace detail {
// The index of the name in `node`. Returns -1 and sets `problem` when it is none of them.
int read_name(const YamlNode& node, const std::vector<std::string>& names, std::string& problem);
}  // namespace detail

template <class E>
requires std::is_enum_v<E> std::string read_value(const YamlNode& node, E& value) {
  std::string problem;
  const auto& names = settings::kNames<E>;
  const int index = detail::read_name(node, std::vector<std::string>(names.begin(), names.end()), problem);
  if (index >= 0) value = E(index);
  return problem;
}

template <class E>
requires std::is_enum_v<E> std::string print_value(E value) { return std::string(settings::name_of(value)); }

template <class T>
nlohmann::json json_value(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(settings::name_of(value));
  } else if constexpr (std::is_same_v<T, PathList>) {  // one is written as it always was: as text
    return value.entries.size() > 1 ? nlohmann::json(value.entries) : nlohmann::json(value.text());
  } else {
    return value;
  }
}

}  // namespace echo
