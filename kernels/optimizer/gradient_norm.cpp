#include "kernels/optimizer/gradient_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

constexpr int64_t kSlice = 1 << 16;

struct Slice {
  const Tensor* tensor;
  int64_t begin, count;
};

template <class T>
double sum_of_squares(const T* x, int64_t count) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < count; ++i) {
    const double value = static_cast<accumulator<T>>(x[i]);
    total += value * value;
  }
  return total;
}

}  // namespace

// All slices are in one list, so that many small tensors and a few large ones keep all threads equally busy.
double gradient_norm(std::span<const Tensor> gradients) {
  std::vector<Slice> slices;
  for (const Tensor& gradient : gradients)
    if (gradient.defined())
      for (int64_t begin = 0, count = gradient.elements(); begin < count; begin += kSlice)
        slices.push_back({&gradient, begin, std::min(kSlice, count - begin)});
  const int64_t count = int64_t(slices.size());
  std::vector<double> partial(slices.size());
#pragma omp parallel for schedule(static) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    const Slice& slice = slices[size_t(i)];
    dispatch_float(slice.tensor->dtype(), [&]<class T>() {
      partial[size_t(i)] = sum_of_squares(static_cast<const T*>(slice.tensor->raw_data()) + slice.begin, slice.count);
    });
  }
  double total = 0;
  for (double value : partial) total += value;
  return std::sqrt(total);
}

}  // namespace cpu

double gradient_norm(std::span<const Tensor> gradients) {
  Tensor first;
  for (const Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    if (!first.defined()) first = gradient;
    ECHO_CHECK(gradient.is_contiguous() && is_float(gradient.dtype()), "gradient_norm: ", gradient,
               ", expected contiguous and floating");
    ECHO_CHECK(gradient.device() == first.device(), "gradient_norm: tensors on ", first.device(), " and ", gradient.device());
  }
  if (!first.defined()) return 0;
  return ECHO_DISPATCH_DEVICE(first, gradient_norm, gradients);
}

double clip_coefficient(double norm, double max_norm) {
  if (!std::isfinite(norm)) return std::numeric_limits<double>::quiet_NaN();
  if (max_norm <= 0) return 1;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace echo::kernels
