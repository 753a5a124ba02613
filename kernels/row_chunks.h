#pragma once

#include <algorithm>
#include <cstdint>

namespace echo::kernels {

// Rows are summed in chunks, and the chunks are added in order. The limits of chunks depend only on the number of rows. So sums
// over rows have the same bits on any number of threads.
struct RowChunks {
  explicit RowChunks(int64_t row_count) : rows(row_count), per_chunk(std::max<int64_t>(16, (row_count + 63) / 64)) {}
  int64_t count() const { return (rows + per_chunk - 1) / per_chunk; }
  int64_t begin(int64_t chunk) const { return chunk * per_chunk; }
  int64_t end(int64_t chunk) const { return std::min(rows, (chunk + 1) * per_chunk); }

  int64_t rows, per_chunk;
};

}  // namespace echo::kernels
