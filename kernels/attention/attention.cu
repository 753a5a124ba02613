// Attention on a GPU: the choice between the kernels of plain.cu, sm80_* and sm90_*, and the kernel for delta. Delta: as many
// lanes own a row of Dh as there are 16-byte loads in it (8 for 64 bf16 values). Neighbouring lanes own neighbouring heads and
// positions. Bytes per row: 2 Dh elements read, 4 bytes read and written. No shared memory.
#include "kernels/attention/attention.h"
#include "kernels/attention/choice.h"
#include "kernels/attention/views.cuh"
#include "tensor/cuda_device.h"

namespace echo::kernels::cuda {
namespace {

using namespace attention;

constexpr int kRowThreads = 256;

// Each of the `lanes` lanes of a row (a power of two) takes kWidth elements at a time.
template <class T, int kWidth>
__global__ void __launch_bounds__(kRowThreads)
    add_delta(float* delta, HeadView<T> d_o, HeadView<T> o, int64_t rows, int positions, int heads, int width, int lanes) {
  const int member = int(threadIdx.x) % lanes;
  const int64_t index = (int64_t(blockIdx.x) * kRowThreads + threadIdx.x) / lanes;
  const int64_t row = index < rows ? index : rows - 1;  // all lanes are needed for the sums
  const int head = int(row % heads);
  const int64_t batch = row / heads / positions, position = row / heads % positions;
  const T* const a = d_o.row(batch, position, head);
  const T* const b = o.row(batch, position, head);
  float sum = 0;
  for (int d = member * kWidth; d < width; d += lanes * kWidth) {
    if constexpr (kWidth == 1) {
      sum += to_float(a[d]) * to_float(b[d]);
    } else {
      float x[kWidth], y[kWidth];
      load_vector(x, a + d);
      load_vector(y, b + d);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += x[i] * y[i];
    }
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (member == 0 && index < rows) delta[(batch * heads + head) * positions + position] += sum;
}

enum class Family { plain, sm80, sm90 };

// The family of kernels for a problem with these tensors.
template <class... Tensors>
Family family_of(const AttentionProblem<bfloat16>& problem, const Tensors&... tensors) {
  const AttentionKernels chosen = attention_kernels();
  if (chosen == AttentionKernels::plain || !sm80::takes(problem, tensors...)) return Family::plain;
  const echo::cuda::DeviceProperties& gpu = echo::cuda::properties();
  return chosen == AttentionKernels::best && gpu.major == 9 && gpu.minor == 0 ? Family::sm90 : Family::sm80;
}

}  // namespace

void attention_forward(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first_key,
                       double scale) {
  dispatch_gpu_float("attention_forward", q.dtype(), [&]<class T>() {
    const AttentionProblem<T> problem = problem_of<T>(q, k, first_key, scale);
    if constexpr (std::is_same_v<T, bfloat16>) {
      const Family family = family_of(problem, o, q, k, v);
      if (family == Family::sm90) return sm90::forward(o, lse, problem, v);
      if (family == Family::sm80) return sm80::forward(o, lse, problem, v);
    }
    plain::forward(o, lse, problem, v);
  });
}

void shared_attention_forward(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& lse, const Tensor& v,
                              const Tensor& first_key, double scale) {
  dispatch_gpu_float("shared_attention_forward", q.dtype(), [&]<class T>() {
    const AttentionProblem<T> problem = problem_of<T>(q, k, first_key, scale);
    if constexpr (std::is_same_v<T, bfloat16>) {
      const Family family = family_of(problem, o, q, k, v);
      if (family == Family::sm90) return sm90::shared_forward(o, problem, lse, v);
      if (family == Family::sm80) return sm80::shared_forward(o, problem, lse, v);
    }
    plain::shared_forward(o, problem, lse, v);
  });
}

void attention_delta(Tensor& delta, const Tensor& d_o, const Tensor& o) {
  const int64_t rows = delta.elements(), width = o.dim(3);
  dispatch_gpu_float("attention_delta", o.dtype(), [&]<class T>() {
    constexpr int kVector = kPerVector<T>;
    const bool vectors = width % kVector == 0 && has_aligned_rows(d_o) && has_aligned_rows(o);
    int lanes = 1;
    while (lanes < kWarp && lanes * (vectors ? kVector : 1) < width) lanes *= 2;
    launch(vectors ? add_delta<T, kVector> : add_delta<T, 1>, blocks_for(rows * lanes, kRowThreads), kRowThreads, 0, stream(),
           delta.data<float>(), head_view<T>(d_o), head_view<T>(o), rows, int(o.dim(1)), int(o.dim(2)), int(width), lanes);
  });
}

void attention_value_backward(Tensor& dv, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& lse,
                              const Tensor& first_key, double scale) {
  dispatch_gpu_float("attention_value_backward", q.dtype(), [&]<class T>() {
    const AttentionProblem<T> problem = problem_of<T>(q, k, first_key, scale);
    if constexpr (std::is_same_v<T, bfloat16>) {
      const Family family = family_of(problem, dv, d_o, q, k);
      if (family == Family::sm90) return sm90::value_backward(dv, d_o, problem, lse);
      if (family == Family::sm80) return sm80::value_backward(dv, d_o, problem, lse);
    }
    plain::value_backward(dv, d_o, problem, lse);
  });
}

void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv_of_leader, std::span<const SharingLayer> layers, const Tensor& q,
                        const Tensor& k, const Tensor& lse, const Tensor& delta, const Tensor& first_key, double scale) {
  dispatch_gpu_float("attention_backward", q.dtype(), [&]<class T>() {
    const AttentionProblem<T> problem = problem_of<T>(q, k, first_key, scale);
    if constexpr (std::is_same_v<T, bfloat16>) {
      const int count = int(layers.size());
      Family family = family_of(problem, dq, dk, dv_of_leader, q, k);
      for (const SharingLayer& layer : layers)
        if (!sm80::takes(problem, layer.d_o, layer.v)) family = Family::plain;
      if (!sm80::has_room(problem, count)) family = Family::plain;
      if (family == Family::sm90 && sm90::has_room(problem, count))
        return sm90::backward(dq, dk, dv_of_leader, layers, problem, lse, delta);
      if (family != Family::plain && sm80::takes_whole_heads(problem, count) &&
          (attention_kernels() == AttentionKernels::sm80_whole_heads || sm80::whole_heads_are_quicker(problem, count)))
        return sm80::whole_heads_backward(dq, dk, dv_of_leader, layers, problem, lse, delta);
      if (family != Family::plain) return sm80::backward(dq, dk, dv_of_leader, layers, problem, lse, delta);
    }
    plain::backward(dq, dk, dv_of_leader, layers, problem, lse, delta);
  });
}

}  // namespace echo::kernels::cuda
