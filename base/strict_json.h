#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace echo {

// Parses JSON and refuses what the grammar leaves open: an object with the same key twice, nesting deeper than 32.
// `source` (usually the file) begins the message of the Error (bad_data) that every mistake becomes.
nlohmann::json parse_strict_json(std::string_view text, std::string_view source);

}  // namespace echo
