#include "data/data_cursor.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace echo {
namespace {

struct Field {
  const char* name;
  int64_t DataCursor::*number;
};
constexpr Field kFields[] = {{"epoch", &DataCursor::epoch},           {"token", &DataCursor::token},
                             {"block", &DataCursor::block},           {"row", &DataCursor::row},
                             {"block_rows", &DataCursor::block_rows}, {"open_files", &DataCursor::open_files}};

int64_t number(const nlohmann::json& object, const char* key) {
  const auto value = object.at(key).get<int64_t>();
  if (!object.at(key).is_number_integer() || value < 0)
    fail(ExitCode::bad_data, "the saved data position is damaged: \"", key, "\" is ", object.at(key).dump());
  return value;
}

CorpusPosition::OpenFile open_file_from_json(const nlohmann::json& json) {
  CorpusPosition::OpenFile open{number(json, "file"), {number(json, "record"), -1}};
  if (json.contains("byte")) open.position.byte = number(json, "byte");  // earlier versions wrote none
  return open;
}

}  // namespace

nlohmann::json to_json(const DataCursor& cursor) {
  nlohmann::json json, counts, opened = nlohmann::json::array();
  for (const Field& field : kFields) json[field.name] = cursor.*field.number;
  for (const SkipCounts::Field& field : SkipCounts::fields()) counts[field.name] = cursor.counts.*field.count;
  for (const CorpusPosition::OpenFile& open : cursor.position.opened) {
    nlohmann::json file = {{"file", open.file}, {"record", open.position.record}};
    if (open.position.byte >= 0) file["byte"] = open.position.byte;
    opened.push_back(std::move(file));
  }
  json["draws"] = cursor.position.draws;
  json["next_file"] = cursor.position.next_file;
  json["opened"] = std::move(opened);
  json["files"] = cursor.files;
  if (!cursor.skipped.empty()) json["skipped"] = cursor.skipped;
  json["counts"] = std::move(counts);
  return json;
}

DataCursor data_cursor_from_json(const nlohmann::json& json) {
  try {
    DataCursor cursor;
    if (json.contains("block_rows")) {
      for (const Field& field : kFields) cursor.*field.number = number(json, field.name);
      cursor.position.draws = number(json, "draws");
      cursor.position.next_file = number(json, "next_file");
      for (const nlohmann::json& open : json.at("opened")) cursor.position.opened.push_back(open_file_from_json(open));
    } else {  // of an earlier version: one file after the other, row after row
      cursor.epoch = number(json, "epoch");
      cursor.token = number(json, "token");
      cursor.position.opened.push_back(open_file_from_json(json));
      cursor.position.next_file = cursor.position.opened[0].file + 1;
    }
    cursor.files = json.at("files").get<uint64_t>();
    if (json.contains("skipped")) json.at("skipped").get_to(cursor.skipped);
    const nlohmann::json& counts = json.at("counts");
    for (const SkipCounts::Field& field : SkipCounts::fields()) cursor.counts.*field.count = number(counts, field.name);
    return cursor;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_data, "the saved data position is damaged: ", error.what());
  }
}

}  // namespace echo
