#pragma once

#include "kernels/attention_mma.cuh"
#include "tensor/cuda_memory.h"

// Gradients of keys and values sum over the heads of a group. One block does that for its 128 keys when there are enough blocks
// to fill the device; else each group is split over several blocks, which leave f32 partial sums that a second kernel adds up
// in order.
namespace echo::kernels::cuda::attention::tensor_core {

// Blocks per group: the smallest divisor of the group that gives every multiprocessor two blocks, or the whole group.
inline int group_splits(const Matrix<bfloat16>& matrix) {
  const int group = matrix.heads / matrix.key_heads;
  const int64_t blocks = int64_t(blocks_for(matrix.positions, kBlockRows)) * matrix.key_heads * matrix.batches;
  for (int splits = 1; splits < group; ++splits)
    if (group % splits == 0 && blocks * splits >= 2 * echo::cuda::properties().multiprocessors) return splits;
  return group;
}

// (splits, B, T, Hkv, Dh) f32; undefined, as its pointer is null, with one split.
class Partials {
 public:
  Partials(const Matrix<bfloat16>& matrix, int splits, Device device) {
    if (splits > 1)
      sums_ = Tensor::empty({splits, matrix.batches, matrix.positions, matrix.key_heads, matrix.width}, DType::f32, device);
  }
  float* data() const { return data_or_null<float>(sums_); }
  // to = factor * sum over splits.
  void add_up(const Tensor& to, float factor) const;

 private:
  Tensor sums_;
};

// What a block of keys is and does: grid (Hkv * splits, B, T / 128). The first keys, which most queries see, start first.
struct KeyBlock {
  __device__ __forceinline__ explicit KeyBlock(const Matrix<bfloat16>& matrix)
      : splits(int(gridDim.x) / matrix.key_heads),
        key_head(int(blockIdx.x) / splits),
        split(int(blockIdx.x) % splits),
        first_head((key_head * splits + split) * (matrix.heads / matrix.key_heads / splits)),
        end_head(first_head + matrix.heads / matrix.key_heads / splits) {}
  int splits, key_head, split, first_head, end_head;
};
inline dim3 key_grid(const Matrix<bfloat16>& matrix, int splits) {
  return dim3(unsigned(matrix.key_heads * splits), unsigned(matrix.batches), blocks_for(matrix.positions, kBlockRows));
}

// The warp's rows of a block's partial sums.
template <int W>
__device__ __forceinline__ void store_partial(float* partial, const Matrix<bfloat16>& matrix, int split, int batch, int row,
                                              int key_head, const float (&sums)[2][W / 8][4]) {
  const int lane = opaque(lane_number());
#pragma unroll
  for (int half = 0; half < 4; ++half) {
    const int position = row + 8 * half + lane / 4;
    if (position >= matrix.positions) continue;
    float* const to =
        partial + (((int64_t(split) * matrix.batches + batch) * matrix.positions + position) * matrix.key_heads + key_head) *
                      matrix.width;
#pragma unroll
    for (int n = 0; n < W / 8; ++n) {
      if (8 * n >= matrix.width) continue;
      *reinterpret_cast<float2*>(to + 8 * n + lane % 4 * 2) =
          make_float2(sums[half / 2][n][half % 2 * 2], sums[half / 2][n][half % 2 * 2 + 1]);
    }
  }
}

}  // namespace echo::kernels::cuda::attention::tensor_core
