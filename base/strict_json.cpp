#include "base/strict_json.h"

#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace echo {

nlohmann::json parse_strict_json(std::string_view text, std::string_view source) {
  using Event = nlohmann::json::parse_event_t;
  constexpr int kMaxDepth = 32;
  std::vector<std::set<std::string>> keys;  // keys seen so far in each open object
  const auto watch = [&](int depth, Event event, nlohmann::json& parsed) {
    if (depth > kMaxDepth) fail(ExitCode::bad_data, source, ": is nested deeper than ", kMaxDepth, " levels");
    if (event == Event::object_start) {
      keys.emplace_back();
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) fail(ExitCode::bad_data, source, ": key \"", key, "\" occurs twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::exception& error) {
    // The library's message has line and column, and also repeats the wrong token, which may be most of the file.
    fail(ExitCode::bad_data, source, ": is not valid JSON: ", std::string(error.what()).substr(0, 200));
  }
}

}  // namespace echo
