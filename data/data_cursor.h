#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "data/document_source.h"

namespace echo {

// A position in the endless training stream: the token that the next row begins with.
struct DataCursor {
  int64_t epoch = 0;
  SourcePosition position;  // of the document; `file` is the place in the epoch's order of the files
  int64_t token = 0;        // of that document's tokens, begin and end tokens counted
  uint64_t files = 0;       // fingerprint of the files it belongs to; 0: a fresh start
  SkipCounts counts;        // of the records before it, over all epochs
  bool operator==(const DataCursor&) const = default;
};

nlohmann::json to_json(const DataCursor& cursor);
// Throws Error (bad_data) when a field is missing, has another type or is negative. Only "byte" may be missing.
DataCursor data_cursor_from_json(const nlohmann::json& json);

}  // namespace echo
