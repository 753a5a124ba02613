#include "data/data_cursor.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace echo {

nlohmann::json to_json(const DataCursor& cursor) {
  nlohmann::json counts;
  for (const SkipCounts::Field& field : SkipCounts::fields()) counts[field.name] = cursor.counts.*field.count;
  nlohmann::json json = {{"epoch", cursor.epoch}, {"file", cursor.position.file}, {"record", cursor.position.record},
                         {"token", cursor.token}, {"files", cursor.files},        {"counts", counts}};
  if (cursor.position.byte >= 0) json["byte"] = cursor.position.byte;
  return json;
}

DataCursor data_cursor_from_json(const nlohmann::json& json) {
  const auto number = [](const nlohmann::json& object, const char* key) {
    const auto value = object.at(key).get<int64_t>();
    if (!object.at(key).is_number_integer() || value < 0)
      fail(ExitCode::bad_data, "the saved data position is damaged: \"", key, "\" is ", object.at(key).dump());
    return value;
  };
  try {
    DataCursor cursor;
    cursor.epoch = number(json, "epoch");
    cursor.position.file = number(json, "file");
    cursor.position.record = number(json, "record");
    if (json.contains("byte")) cursor.position.byte = number(json, "byte");  // earlier versions did not write it
    cursor.token = number(json, "token");
    cursor.files = json.at("files").get<uint64_t>();
    const nlohmann::json& counts = json.at("counts");
    for (const SkipCounts::Field& field : SkipCounts::fields()) cursor.counts.*field.count = number(counts, field.name);
    return cursor;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "the saved data position is damaged: ", error.what());
  }
}

}  // namespace echo
