#pragma once

#include "tensor/tensor.h"

namespace echo::kernels {

// Cosines and sines of the rotation angles, (positions, Dh / 2) each: f32, or f64 for f64 activations.
struct RopeTable {
  Tensor cosine, sine;
  int64_t positions() const { return cosine.defined() ? cosine.dim(0) : 0; }
};

enum class RopeDirection { forward, backward };  // backward rotates by the negative angle: it is the gradient of forward

// Rotary position embedding: the pair (x[i], x[i + Dh/2]) of token t is rotated by angle[first_position + t][i].
//   x, y: (B, T, H, Dh) of one dtype: f32, bf16, or f64 on the CPU. The last dimension has stride 1, the others any stride. y
//   may be x.
// Throws Error when the table is too short, when Dh is odd, or when shapes, dtypes or devices do not fit.
// Source: Su et al. 2021, arXiv:2104.09864. Pairs are those of the Hugging Face checkpoints.
void rope(Tensor& y, const Tensor& x, const RopeTable& table, int64_t first_position, RopeDirection direction);

namespace cpu {
decltype(kernels::rope) rope;
}  // namespace cpu
namespace cuda {
decltype(kernels::rope) rope;
}  // namespace cuda

}  // namespace echo::kernels
