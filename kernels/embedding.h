#pragma once

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// y[i] = table[ids[i]].
//   ids: (N) i32 in [0, V); table: (V, D) any floating dtype; y: (N, D) any floating dtype, contiguous.
// Throws Error naming position and id when an id is out of range; on a GPU, whose ids the host does not read, its row becomes
// NaN.
void embedding_forward(Tensor& y, const Tensor& ids, const Tensor& table);

// d_table[ids[i]] += dy[i], in the order of i for each row: deterministic. d_table: (V, D) accumulator dtype of dy.
// An id that is out of range: as above; on a GPU it adds to no row.
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
