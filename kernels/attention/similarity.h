#pragma once

#include <span>
#include <vector>

#include "kernels/attention/similarity_sums.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// The attention matrix of one layer for one text of T tokens, as attention_forward defines it (kernels/attention/attention.h):
//   P[h,t,s] = exp(scale * q[t,h] . k[s,h'] - lse[h,t])  for s <= t, else 0;  h' = h / (H / Hkv)
//   q: (T, H, Dh), k: (T, Hkv, Dh), f32, bf16 or f64, with stride 1 in the last dimension. lse: (H, T), contiguous, in the
//   accumulator dtype.
struct AttentionMatrix {
  Tensor q, k, lse;
};

// Cosines of the matrices of each pair of layers: (L, L) f64 each, symmetric. <.,.> is the sum of products over
//   flat             all heads, rows and columns
//   per_head         the rows and columns of one head; the cosine is then averaged over heads
//   per_row          the columns of one row; the cosine is then averaged over rows and heads
//   no_first_column  as flat, but without the first column (the first row then has no column, and adds nothing)
//   cosine(A, B) = <A, B> / sqrt(<A, A> <B, B>)
// If a matrix is zero outside the first column, its cosine without that column is 1 with itself and 0 with all others.
struct AttentionSimilarity {
  Tensor flat, per_head, per_row, no_first_column;
};

// Nothing of size T x T is stored. The rows of all layers are rebuilt together, one tile of rows and keys at a time, and only
// their inner products are kept. Work, in multiply-adds: L H T^2 Dh for the rows and L^2 H T^2 / 2 for the products. Memory
// beyond the arguments does not depend on T.
// Products are summed in f32 (f64 for f64) along a row, and in f64 beyond a row. A value that is not finite in any layer makes
// its similarities NaN. The results are on the CPU, for layers on any device, and do not depend on the number of threads. Waits
// for the GPU.
// Throws Error when there are no layers, when shapes, dtypes or devices do not fit or differ between layers, and on a GPU for
// more than 64 layers.
AttentionSimilarity attention_similarity(std::span<const AttentionMatrix> layers, double scale);

// The sums of each head, from which the cosines follow. Arguments as above, already checked.
namespace cpu {
std::vector<SimilaritySums> similarity_sums(std::span<const AttentionMatrix> layers, double scale);
}  // namespace cpu
namespace cuda {
std::vector<SimilaritySums> similarity_sums(std::span<const AttentionMatrix> layers, double scale);
}  // namespace cuda

}  // namespace echo::kernels
