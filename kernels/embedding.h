#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// y[i] = table[ids[i]].
//   ids: (N) i32 in [0, V). table: (V, D). y: (N, D). table and y are contiguous, of any floating dtypes (on a GPU f32 and
//   bf16).
// Throws Error when shapes or devices do not fit. An id out of range throws Error with its position on the CPU. The host does
// not read ids on a GPU: there, the row of such an id becomes NaN.
void embedding_forward(Tensor& y, const Tensor& ids, const Tensor& table);

// d_table[ids[i]] += dy[i], in the order of i for each row, so the result is deterministic. d_table: (V, D), contiguous, in the
// accumulator dtype of dy. dy: (N, D), contiguous.
// Throws Error as above. An id out of range is added to no row on a GPU.
void embedding_backward(Tensor& d_table, GradientMode mode, const Tensor& dy, const Tensor& ids);

namespace cpu {
decltype(kernels::embedding_forward) embedding_forward;
decltype(kernels::embedding_backward) embedding_backward;
}  // namespace cpu
namespace cuda {
decltype(kernels::embedding_forward) embedding_forward;
decltype(kernels::embedding_backward) embedding_backward;
}  // namespace cuda

}  // namespace echo::kernels
