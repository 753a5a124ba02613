// AdamW on a GPU. One launch covers up to kMostSpans tensors. Their addresses are a kernel parameter, so nothing is copied to
// the device first. A block owns a slice of kSlice elements of one tensor. A thread processes kItems vectors at a time, with 4
// * kItems loads of 16 bytes in flight before it uses the first. Bytes per element: 16 read, 12 written, and 2 more for the
// compute copy.
#include <cmath>

#include "kernels/cuda/many_tensors.cuh"
#include "kernels/optimizer/adamw.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = kPerVector<float>;
constexpr int kItems = 2;
constexpr int64_t kSlice = 4 * kItems * kThreads * kVector;
constexpr int kMostSpans = 60;

struct Table {
  float* parameter[kMostSpans];
  const float* gradient[kMostSpans];
  float* first_moment[kMostSpans];
  float* second_moment[kMostSpans];
  bfloat16* compute_copy[kMostSpans];  // or null
  int64_t count[kMostSpans];
  float keep[kMostSpans];           // 1 - learning rate * weight decay
  int32_t first_slice[kMostSpans];  // slices of earlier tensors in this launch
  uint8_t is_aligned[kMostSpans];
  int32_t spans = 0;
  int32_t slices = 0;
};

struct Factors {
  float gradient_scale, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_correction, epsilon;
};
static_assert(sizeof(Table) + sizeof(Factors) <= 4000, "a kernel's parameters are limited to 4 KiB");

__device__ __forceinline__ void update(float& parameter, float gradient, float& first, float& second, float keep,
                                       const Factors& f) {
  const float g = f.gradient_scale * gradient;
  first += f.one_minus_beta1 * (g - first);
  second = f.beta2 * second + f.one_minus_beta2 * (g * g);
  parameter = parameter * keep - f.step_size * (first / (sqrtf(second) * f.inverse_correction + f.epsilon));
}

__global__ void __launch_bounds__(kThreads) update_slices(const __grid_constant__ Table table, const Factors factors) {
  const int slice = int(blockIdx.x);
  const int span = tensor_of_slice(table.first_slice, table.spans, slice);
  const int64_t begin = int64_t(slice - table.first_slice[span]) * kSlice;
  const int count = int(min(kSlice, table.count[span] - begin));
  float* const parameter = table.parameter[span] + begin;
  const float* const gradient = table.gradient[span] + begin;
  float* const first_moment = table.first_moment[span] + begin;
  float* const second_moment = table.second_moment[span] + begin;
  bfloat16* const compute_copy = table.compute_copy[span] == nullptr ? nullptr : table.compute_copy[span] + begin;
  const float keep = table.keep[span];

  const int vectors = table.is_aligned[span] ? count / kVector : 0;
  for (int start = int(threadIdx.x); start < vectors; start += kItems * kThreads) {
    float p[kItems][kVector], g[kItems][kVector], m[kItems][kVector], v[kItems][kVector];
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int at = (start + item * kThreads) * kVector;
      if (at >= vectors * kVector) continue;
      load_vector(p[item], parameter + at);
      load_vector(g[item], gradient + at);
      load_vector(m[item], first_moment + at);
      load_vector(v[item], second_moment + at);
    }
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int at = (start + item * kThreads) * kVector;
      if (at >= vectors * kVector) continue;
#pragma unroll
      for (int i = 0; i < kVector; ++i) update(p[item][i], g[item][i], m[item][i], v[item][i], keep, factors);
      store_vector(parameter + at, p[item]);
      store_vector(first_moment + at, m[item]);
      store_vector(second_moment + at, v[item]);
      if (compute_copy != nullptr)
        *reinterpret_cast<uint2*>(compute_copy + at) =
            make_uint2(pack_bf16(p[item][0], p[item][1]), pack_bf16(p[item][2], p[item][3]));
    }
  }
  for (int i = vectors * kVector + int(threadIdx.x); i < count; i += kThreads) {
    float p = parameter[i], m = first_moment[i], v = second_moment[i];
    update(p, gradient[i], m, v, keep, factors);
    parameter[i] = p, first_moment[i] = m, second_moment[i] = v;
    if (compute_copy != nullptr) compute_copy[i] = from_float<bfloat16>(p);
  }
}

void append(Table& table, const AdamWSpan& span, double learning_rate) {
  const int at = table.spans++;
  table.parameter[at] = span.parameter.data<float>();
  table.gradient[at] = span.gradient.data<float>();
  table.first_moment[at] = span.first_moment.data<float>();
  table.second_moment[at] = span.second_moment.data<float>();
  table.compute_copy[at] = data_or_null<bfloat16>(span.compute_copy);
  table.count[at] = span.parameter.elements();
  table.keep[at] = float(1 - learning_rate * span.weight_decay);
  table.first_slice[at] = table.slices;
  table.is_aligned[at] = is_vector_aligned(table.parameter[at], 0) && is_vector_aligned(table.gradient[at], 0) &&
                         is_vector_aligned(table.first_moment[at], 0) && is_vector_aligned(table.second_moment[at], 0) &&
                         is_vector_aligned(table.compute_copy[at], 0);
  table.slices += int32_t((table.count[at] + kSlice - 1) / kSlice);
}

}  // namespace

void adamw(std::span<const AdamWSpan> spans, const AdamWSettings& s) {
  const double correction1 = 1 - std::pow(s.beta1, double(s.step)), correction2 = 1 - std::pow(s.beta2, double(s.step));
  const Factors factors = {float(s.gradient_scale),
                           float(1 - s.beta1),
                           float(s.beta2),
                           float(1 - s.beta2),
                           float(s.learning_rate / correction1),
                           float(1 / std::sqrt(correction2)),
                           float(s.epsilon)};
  Table table;
  const auto flush = [&] {
    if (table.spans > 0) launch(update_slices, unsigned(table.slices), kThreads, 0, stream(), table, factors);
    table.spans = table.slices = 0;
  };
  for (const AdamWSpan& span : spans) {
    ECHO_CHECK(span.parameter.dtype() == DType::f32, "adamw: parameter is ", span.parameter, " on a GPU, expected f32");
    if (span.parameter.elements() == 0) continue;
    if (table.spans == kMostSpans) flush();
    append(table, span, s.learning_rate);
  }
  flush();
}

}  // namespace echo::kernels::cuda
