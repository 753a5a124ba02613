#pragma once

#include <span>
#include <vector>

#include "kernels/attention/similarity_sums.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// The attention matrix of one layer for one text of T tokens, as attention_forward leaves it (kernels/attention/attention.h):
//   P[h,t,s] = exp(scale * q[t,h] . k[s,h'] - lse[h,t])  for s <= t, else 0;  h' = h / (H / Hkv)
//   q: (T, H, Dh), k: (T, Hkv, Dh), f32, bf16 or f64, the last dimension with stride 1; lse: (H, T) contiguous, accumulator
//   dtype.
struct AttentionMatrix {
  Tensor q, k, lse;
};

// Cosines of the matrices of each two layers: (L, L) f64 each, symmetric. With <.,.> the sum of products over
//   flat             all heads, rows and columns
//   per_head         the rows and columns of a head; the cosine is averaged over heads
//   per_row          the columns of a row; averaged over rows and heads
//   no_first_column  as flat, all columns but the first (the first row then has none, and adds nothing)
//   cosine(A, B) = <A, B> / sqrt(<A, A> <B, B>)
// Two matrices that are zero everywhere but in the first column count as 0 without it, each as 1 with itself.
struct AttentionSimilarity {
  Tensor flat, per_head, per_row, no_first_column;
};

// Nothing of size T x T is stored: the rows of all layers are rebuilt together, a tile of rows and keys at a time, and only
// their inner products are kept. Work: L H T^2 Dh for the rows and L^2 H T^2 / 2 for the products (multiplications and
// additions); memory beyond the arguments does not depend on T.
// Products are summed in f32 (f64 for f64) along a row, everything beyond a row in f64. A value that is not finite in any layer
// makes its similarities NaN. The results are on the CPU, wherever the layers are; they are the same for any number of threads.
// Throws Error when there are no layers, or shapes, dtypes or devices do not fit or differ between layers; on a GPU also for
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
