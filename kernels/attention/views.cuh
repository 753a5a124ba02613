#pragma once

#include <span>

#include "kernels/attention/sharing_layer.h"
#include "kernels/cuda/common.cuh"

// The arguments of attention's CUDA kernels, and the functions that start them, in three families:
//   plain  supports every shape and dtype.
//   sm80   uses the tensor cores with Ampere's instructions. It supports bf16 heads of at most 128 columns, a multiple of 8,
//   with
//          rows aligned to 16 bytes and a positive scale.
//   sm90   uses Hopper's instructions, and supports what sm80 supports.
// kernels/attention/attention.cu chooses between them.
namespace echo::kernels::cuda::attention {

// A (B, T, H, Dh) tensor whose last dimension has stride 1.
template <class T>
struct HeadView {
  T* data;
  int64_t batch_stride, position_stride, head_stride;

  __device__ __forceinline__ T* row(int64_t batch, int64_t position, int64_t head) const {
    return data + batch * batch_stride + position * position_stride + head * head_stride;
  }
};
template <class T>
HeadView<T> head_view(const Tensor& tensor) {
  if (!tensor.defined()) return {nullptr, 0, 0, 0};
  return {tensor.data<T>(), tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

// The inputs of the matrix of probabilities.
template <class T>
struct AttentionProblem {
  HeadView<T> q, k;
  const int32_t* first_key;  // (B, T), or null
  int batches, positions, heads, key_heads, width;
  float scale;

  // The first key that a position may see. A position beyond the last one sees none.
  __device__ __forceinline__ int first_key_of(int batch, int position) const {
    if (position >= positions) return 0x7fffffff;
    return first_key == nullptr ? 0 : first_key[int64_t(batch) * positions + position];
  }
  __device__ __forceinline__ int64_t statistic(int batch, int head, int position) const {
    return (int64_t(batch) * heads + head) * positions + position;
  }
};
template <class T>
AttentionProblem<T> problem_of(const Tensor& q, const Tensor& k, const Tensor& first_key, double scale) {
  return {head_view<T>(q), head_view<T>(k), data_or_null<int32_t>(first_key),
          int(q.dim(0)),   int(q.dim(1)),   int(q.dim(2)),
          int(k.dim(2)),   int(q.dim(3)),   float(scale)};
}

// The layers that share the matrix, as a kernel argument. The arguments of a kernel are limited to 4 KiB.
inline constexpr int kMostLayers = 48;
template <class T>
struct SharingLayers {
  int count;
  struct {
    HeadView<T> d_o, v;
  } of[kMostLayers];
};
template <class T>
SharingLayers<T> layers_of(std::span<const SharingLayer> layers) {
  ECHO_CHECK(layers.size() <= size_t(kMostLayers), "attention_backward: ", layers.size(),
             " layers share one matrix; a GPU supports at most ", kMostLayers);
  SharingLayers<T> result = {};
  for (const SharingLayer& layer : layers) result.of[result.count++] = {head_view<T>(layer.d_o), head_view<T>(layer.v)};
  return result;
}

// Clamps an exponent to at most 0. Probabilities are at most 1, but rounding of a large score and its lse could give a positive
// exponent. NaN stays NaN.
__device__ __forceinline__ float at_most_zero(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("min.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
  return y;
#else
  return x > 0 ? 0.0f : x;
#endif
}

// A masked score: smaller than any score, and finite, because the difference of two masked scores must not be NaN.
inline constexpr float kMasked = -1e30f;

// True when all rows can be read 16 bytes at a time.
inline bool has_aligned_rows(const Tensor& tensor) {
  if (!tensor.defined()) return true;
  bool aligned = reinterpret_cast<uintptr_t>(tensor.raw_data()) % 16 == 0;
  for (int i = 0; i < 3; ++i)  // i = 1: the addresses after the last position are also computed, though not read
    aligned = aligned && ((i != 1 && tensor.dim(i) == 1) || tensor.stride(i) * size_of(tensor.dtype()) % 16 == 0);
  return aligned;
}

// Arguments as in kernels/attention/attention.h.
namespace plain {
template <class T>
void forward(Tensor& o, Tensor& lse, const AttentionProblem<T>& problem, const Tensor& v);
template <class T>
void shared_forward(Tensor& o, const AttentionProblem<T>& problem, const Tensor& lse, const Tensor& v);
template <class T>
void value_backward(Tensor& dv, const Tensor& d_o, const AttentionProblem<T>& problem, const Tensor& lse);
template <class T>
void backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers, const AttentionProblem<T>& problem,
              const Tensor& lse, const Tensor& delta);
}  // namespace plain

namespace sm80 {
// True when the kernels of sm80 and sm90 support these tensors.
template <class... Tensors>
bool takes(const AttentionProblem<bfloat16>& problem, const Tensors&... tensors) {
  return problem.width % 8 == 0 && problem.width <= 128 && problem.scale > 0 && (has_aligned_rows(tensors) && ...);
}
void forward(Tensor& o, Tensor& lse, const AttentionProblem<bfloat16>& problem, const Tensor& v);
void shared_forward(Tensor& o, const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& v);
void value_backward(Tensor& dv, const Tensor& d_o, const AttentionProblem<bfloat16>& problem, const Tensor& lse);
// True when a block of backward() fits into the shared memory of this device.
bool has_room(const AttentionProblem<bfloat16>& problem, int layers);
void backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
              const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta);
// The same with fewer products, for heads of at most 64 columns: each block owns whole heads. takes_whole_heads(): its blocks
// fit into shared memory. whole_heads_are_quicker(): there are enough blocks to be quicker than backward().
bool takes_whole_heads(const AttentionProblem<bfloat16>& problem, int layers);
bool whole_heads_are_quicker(const AttentionProblem<bfloat16>& problem, int layers);
void whole_heads_backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
                          const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta);
}  // namespace sm80

namespace sm90 {
void forward(Tensor& o, Tensor& lse, const AttentionProblem<bfloat16>& problem, const Tensor& v);
void shared_forward(Tensor& o, const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& v);
void value_backward(Tensor& dv, const Tensor& d_o, const AttentionProblem<bfloat16>& problem, const Tensor& lse);
// True when a block of backward() fits into shared memory for this number of layers.
bool has_room(const AttentionProblem<bfloat16>& problem, int layers);
void backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
              const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta);
}  // namespace sm90

}  // namespace echo::kernels::cuda::attention
