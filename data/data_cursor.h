#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "data/document_source.h"

namespace echo {

// A position in the endless training stream: the first token of the next row.
struct DataCursor {
  int64_t epoch = 0;
  SourcePosition position;  // of the document; `file` is the position in the epoch's order of files
  int64_t token = 0;        // index in the tokens of that document, including begin and end tokens
  uint64_t files = 0;       // fingerprint of the files; 0: a new start
  SkipCounts counts;        // of the earlier records, over all epochs
  bool operator==(const DataCursor&) const = default;
};

nlohmann::json to_json(const DataCursor& cursor);
// Throws Error (bad_data) when a field is missing, has another type or is negative. Only "byte" may be missing.
DataCursor data_cursor_from_json(const nlohmann::json& json);

}  // namespace echo
