#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace echo {

// Typed access to the keys of one JSON object in a config.json. Null counts as absent, as in transformers. Every key that is
// missing or has the wrong type throws Error (bad_data) with source, key and value.
class ConfigFields {
 public:
  ConfigFields(const nlohmann::json& object, std::string source) : object_(object), source_(std::move(source)) {
    if (!object.is_object()) refuse("is not a JSON object");
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::bad_data, source_, ": ", parts...);
  }

  const nlohmann::json* find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  int64_t integer(std::string_view key) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) refuse("has no ", key);
    return whole(*value, key);
  }
  int64_t integer(std::string_view key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }
  int64_t whole(const nlohmann::json& value, std::string_view key) const {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(INT64_MAX)))
      refuse(key, " is ", value.dump().substr(0, 80), ", expected a whole number");
    return value.get<int64_t>();
  }
  double number(std::string_view key, double otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) refuse(key, " is ", value->dump().substr(0, 80), ", expected a number");
    return value->get<double>();
  }
  bool flag(std::string_view key, bool otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(key, " is ", value->dump().substr(0, 80), ", expected true or false");
    return value->get<bool>();
  }
  std::string text(std::string_view key, std::string otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) refuse(key, " is ", value->dump().substr(0, 80), ", expected a text");
    return value->get<std::string>();
  }
  const nlohmann::json& json() const { return object_; }
  const std::string& source() const { return source_; }

 private:
  const nlohmann::json& object_;
  std::string source_;
};

}  // namespace echo
