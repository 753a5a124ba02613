#pragma once

#include "kernels/rope.h"

namespace echo::kernels {

// What a generation step writes into the caches of keys and values: the new position of sequence b is lengths[b] - 1.
//   cache: (B, S, Hkv, Dh). New rows: (B, 1, heads, Dh), the caches' dtype (f32, bf16, f64); any strides except that the last
//   dimension has stride 1. lengths: (B) i32, contiguous, where the other tensors are: a step needs no value from the host.
// Throws Error when shapes, dtypes, strides or devices do not fit, and on the CPU when a length does not (1 <= lengths[b] <=
// S); on a GPU lengths outside are taken for the nearest one inside.

// One more position for every sequence: lengths[b] += 1, at most to `capacity`.
void extend_lengths(Tensor& lengths, int64_t capacity);

// cache[b, lengths[b] - 1] = rows[b]
void append_to_cache(Tensor& cache, const Tensor& rows, const Tensor& lengths);

// A layer with keys: turns q, (B, 1, H, Dh), in place and appends the turned k and v. The table has at least S positions
// (kernels/rope.h).
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
