#pragma once

#include "kernels/rope.h"

namespace echo::kernels {

// Writes the new position of each sequence into the caches of keys and values. The new position of sequence b is
// lengths[b] - 1.
//   cache: (B, S, Hkv, Dh). New rows: (B, 1, heads, Dh), in the cache's dtype (f32, bf16 or f64; on a GPU f32 or bf16). Strides
//   are arbitrary, except that the last dimension has stride 1.
//   lengths: (B) i32, contiguous, on the same device, so that a step needs no value from the host.
// Throws Error when shapes, dtypes, strides or devices do not fit. A length outside 1 <= lengths[b] <= S throws Error on the
// CPU, and is clamped to that range on a GPU.

// Adds one position to every sequence: lengths[b] += 1, at most `capacity`.
void extend_lengths(Tensor& lengths, int64_t capacity);

// cache[b, lengths[b] - 1] = rows[b]
void append_to_cache(Tensor& cache, const Tensor& rows, const Tensor& lengths);

// For a layer with keys: rotates q (B, 1, H, Dh) in place, and appends the rotated k, and v, to the caches. The table has at
// least S positions (kernels/rope.h).
void rotate_and_append(Tensor& q, Tensor& k_cache, Tensor& v_cache, const Tensor& k, const Tensor& v, const RopeTable& table,
                       const Tensor& lengths);

// Arguments as above, already checked.
namespace cpu {
decltype(kernels::extend_lengths) extend_lengths;
decltype(kernels::append_to_cache) append_to_cache;
decltype(kernels::rotate_and_append) rotate_and_append;
}  // namespace cpu
namespace cuda {
decltype(kernels::extend_lengths) extend_lengths;
decltype(kernels::append_to_cache) append_to_cache;
decltype(kernels::rotate_and_append) rotate_and_append;
}  // namespace cuda

}  // namespace echo::kernels
