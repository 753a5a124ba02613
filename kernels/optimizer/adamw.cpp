#include "kernels/optimizer/adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

// 512 KiB of f32 in the four arrays: large enough to run at memory speed, small enough to spread a few tensors over many
// threads.
constexpr int64_t kSlice = 1 << 15;

struct Slice {
  size_t span;
  int64_t begin, count;
};

template <class T>
struct Factors {
  T gradient_scale, keep, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_correction, epsilon;
};

template <class T>
void update(T* __restrict parameter, const T* __restrict gradient, T* __restrict first, T* __restrict second, int64_t count,
            const Factors<T>& f) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const T g = f.gradient_scale * gradient[i];
    const T m = first[i] + f.one_minus_beta1 * (g - first[i]);
    const T v = f.beta2 * second[i] + f.one_minus_beta2 * (g * g);
    first[i] = m;
    second[i] = v;
    parameter[i] = parameter[i] * f.keep - f.step_size * (m / (std::sqrt(v) * f.inverse_correction + f.epsilon));
  }
}

template <class T>
void update_slice(const AdamWSpan& span, const Slice& slice, const AdamWSettings& s) {
  const double correction1 = 1 - std::pow(s.beta1, double(s.step)), correction2 = 1 - std::pow(s.beta2, double(s.step));
  const Factors<T> factors = {T(s.gradient_scale),
                              T(1 - s.learning_rate * span.weight_decay),
                              T(1 - s.beta1),
                              T(s.beta2),
                              T(1 - s.beta2),
                              T(s.learning_rate / correction1),
                              T(1 / std::sqrt(correction2)),
                              T(s.epsilon)};
  update(static_cast<T*>(span.parameter.raw_data()) + slice.begin,
         static_cast<const T*>(span.gradient.raw_data()) + slice.begin,
         static_cast<T*>(span.first_moment.raw_data()) + slice.begin,
         static_cast<T*>(span.second_moment.raw_data()) + slice.begin, slice.count, factors);
  if (!span.compute_copy.defined()) return;
  // The slice is still in the cache.
  const T* parameter = span.parameter.data<T>() + slice.begin;
  bfloat16* compute_copy = span.compute_copy.data<bfloat16>() + slice.begin;
#pragma omp simd
  for (int64_t i = 0; i < slice.count; ++i) assign(compute_copy[i], float(parameter[i]));
}

}  // namespace

void adamw(std::span<const AdamWSpan> spans, const AdamWSettings& settings) {
  std::vector<Slice> slices;
  for (size_t i = 0; i < spans.size(); ++i)
    for (int64_t begin = 0, count = spans[i].parameter.elements(); begin < count; begin += kSlice)
      slices.push_back({i, begin, std::min(kSlice, count - begin)});
  const int64_t count = int64_t(slices.size());
#pragma omp parallel for schedule(static) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    const Slice& slice = slices[size_t(i)];
    const AdamWSpan& span = spans[slice.span];
    if (span.parameter.dtype() == DType::f64)
      update_slice<double>(span, slice, settings);
    else
      update_slice<float>(span, slice, settings);
  }
}

}  // namespace cpu

void adamw(std::span<const AdamWSpan> spans, const AdamWSettings& settings) {
  ECHO_CHECK(settings.step >= 1, "adamw: step ", settings.step, ", expected at least 1");
  for (const AdamWSpan& span : spans) {
    check_operands("adamw", span.parameter.shape(), {&span.parameter, &span.gradient, &span.first_moment, &span.second_moment});
    check_same_dtype("adamw", {&span.parameter, &span.gradient, &span.first_moment, &span.second_moment});
    ECHO_CHECK(span.parameter.dtype() == DType::f32 || span.parameter.dtype() == DType::f64, "adamw: parameter is ",
               span.parameter, ", expected f32 or f64");
    if (span.compute_copy.defined()) {
      check_operands("adamw", span.parameter.shape(), {&span.parameter, &span.compute_copy});
      ECHO_CHECK(span.compute_copy.dtype() == DType::bf16, "adamw: compute_copy is ", span.compute_copy, ", expected bf16");
    }
    ECHO_CHECK(span.parameter.device() == spans[0].parameter.device(), "adamw: tensors on ", spans[0].parameter.device(),
               " and ", span.parameter.device());
  }
  if (spans.empty()) return;
  ECHO_DISPATCH_DEVICE(spans[0].parameter, adamw, spans, settings);
}

}  // namespace echo::kernels
