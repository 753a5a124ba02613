#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace echo {

// Parses JSON strictly. Two things that JSON's grammar allows are errors here: the same key twice in an object, and nesting
// deeper than 32 levels. Throws Error (bad_data) for every mistake; the message begins with `source`, usually the file.
nlohmann::json parse_strict_json(std::string_view text, std::string_view source);

}  // namespace echo
