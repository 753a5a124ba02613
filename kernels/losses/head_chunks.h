#pragma once

#include <algorithm>

#include "tensor/tensor.h"

namespace echo::kernels {

// Maximum bytes of the logits and gradients of a chunk when chunk_rows is 0. A chunk has at least one row. On a GPU it has at
// least 128, because products with fewer rows are limited by reading the heads.
inline constexpr int64_t kHeadScratch = int64_t{60} << 20;
inline constexpr int64_t kGpuHeadScratch = 148'000'000;

// How the rows are divided. Each chunk costs a pass over both heads. Each product with the gradient costs a pass over the
// student's head, and a read and a write of the head's gradient (f32). So there are as few of both as the scratch memory
// allows. Chunks have nearly equal sizes, because a small last chunk costs as much as a large one.
struct HeadChunks {
  int64_t chunk_rows;           // rows whose logits exist at once
  int64_t chunks_per_gradient;  // chunks whose gradients are multiplied at once
  int64_t row_stride;           // elements from one row of logits (or of their gradient) to the next
};

inline HeadChunks head_chunks(const Tensor& hidden, int64_t vocabulary, bool with_teacher, bool with_gradient,
                              int64_t chunk_rows) {
  const bool on_cpu = hidden.device().is_cpu(), in_place = hidden.dtype() == accumulator_dtype(hidden.dtype());
  // On a GPU rows start at multiples of 256 bytes, which allows 16-byte accesses. The gradients (bf16, so smaller) of two
  // chunks are kept, so that one pass over the head's gradient serves both.
  constexpr int64_t kAlignment = 64;
  HeadChunks chunks;
  chunks.row_stride = on_cpu ? vocabulary : (vocabulary + kAlignment - 1) / kAlignment * kAlignment;
  chunks.chunks_per_gradient = on_cpu || in_place ? 1 : 2;
  const int64_t rows = hidden.dim(0), logit_bytes = size_of(accumulator_dtype(hidden.dtype())) * (with_teacher ? 2 : 1);
  const int64_t gradient_bytes = with_gradient && !in_place ? size_of(hidden.dtype()) * chunks.chunks_per_gradient : 0;
  if (chunk_rows == 0) {
    const int64_t step = on_cpu ? 16 : 128;  // rows of one tile of the products
    int64_t most = (on_cpu ? kHeadScratch : kGpuHeadScratch) / (chunks.row_stride * (logit_bytes + gradient_bytes));
    most = on_cpu ? std::max<int64_t>(most, 1) : std::max(most / step * step, step);
    const int64_t count = (rows + most - 1) / most, even = count == 0 ? 0 : (rows + count - 1) / count;
    chunk_rows = count <= 1 ? rows : std::min(most, (even + step - 1) / step * step);
  }
  chunks.chunk_rows = std::min(chunk_rows, rows);
  return chunks;
}

}  // namespace echo::kernels
