#pragma once

#include "kernels/attention/scores.cuh"
#include "tensor/cuda_device.h"

// Gradients of keys and values are sums over the heads of a group. If there are enough blocks to fill the device, one block
// sums all heads for its keys. Otherwise each group is split over several blocks, which store f32 partial sums. A second kernel
// adds these in order.
namespace echo::kernels::cuda::attention::sm80 {

// The number of blocks over which a group is split, for blocks of `rows` rows: the smallest divisor of the group that gives
// every multiprocessor `wanted` blocks, or the whole group.
inline int group_splits(const AttentionProblem<bfloat16>& problem, int rows, int wanted) {
  const int group = problem.heads / problem.key_heads;
  const int64_t blocks = int64_t(blocks_for(problem.positions, rows)) * problem.key_heads * problem.batches;
  for (int splits = 1; splits < group; ++splits)
    if (group % splits == 0 && blocks * splits >= wanted * echo::cuda::properties().multiprocessors) return splits;
  return group;
}

// (splits, B, T, Hkv, Dh) f32. With one split it is undefined, and its pointer is null.
class Partials {
 public:
  Partials(const AttentionProblem<bfloat16>& problem, int splits, Device device) {
    if (splits > 1)
      sums_ = Tensor::empty({splits, problem.batches, problem.positions, problem.key_heads, problem.width}, DType::f32, device);
  }
  float* data() const { return data_or_null<float>(sums_); }
  // to = factor * sum over splits.
  void add_up(Tensor& to, float factor) const;

 private:
  Tensor sums_;
};

// Stores the warp's rows, M groups of 16, in the block's partial sums.
template <int W, int M>
__device__ __forceinline__ void store_partial(float* partial, const AttentionProblem<bfloat16>& problem, int split, int batch,
                                              int row, int key_head, const float (&sums)[M][W / 8][4]) {
  const int lane = opaque(lane_number());
#pragma unroll
  for (int half = 0; half < 2 * M; ++half) {
    const int position = row + 8 * half + lane / 4;
    if (position >= problem.positions) continue;
    float* const to =
        partial + (((int64_t(split) * problem.batches + batch) * problem.positions + position) * problem.key_heads + key_head) *
                      problem.width;
#pragma unroll
    for (int n = 0; n < W / 8; ++n) {
      if (8 * n >= problem.width) continue;
      *reinterpret_cast<float2*>(to + 8 * n + lane % 4 * 2) =
          make_float2(sums[half / 2][n][half % 2 * 2], sums[half / 2][n][half % 2 * 2 + 1]);
    }
  }
}

}  // namespace echo::kernels::cuda::attention::sm80
