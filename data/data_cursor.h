#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/corpus_source.h"

namespace echo {

// A position in the endless stream of training rows. Rows are made in blocks (data/packer.h): the cursor says where the
// block begins in the stream of tokens, and how many of the block's rows came before. Reading on from a cursor reads that block
// again, and nothing before it.
struct DataCursor {
  int64_t epoch = 0;
  CorpusPosition position;  // of the document in which the block begins; files are numbered in the epoch's order
  int64_t token = 0;        // of that document's tokens, begin and end tokens counted
  int64_t block = 0;        // number of the block
  int64_t row = 0;          // of the block, in the order in which rows are given
  int64_t block_rows = 1;   // rows of a block and files open at a time: what the order depends on beside seed and files
  int64_t open_files = 1;
  uint64_t files = 0;                     // fingerprint of the files it belongs to; 0: a fresh start
  std::vector<std::string> skipped = {};  // files that were left out because they could not be had, by name
  SkipCounts counts;                      // of the records before the block, over all epochs
  bool operator==(const DataCursor&) const = default;
};

nlohmann::json to_json(const DataCursor& cursor);
// Reads what to_json wrote, and the cursors of earlier versions, which knew only the order of the files (block_rows = 1).
// Throws Error (bad_data) when a field is missing, has another type or is negative. Only "byte" may be missing.
DataCursor data_cursor_from_json(const nlohmann::json& json);

}  // namespace echo
