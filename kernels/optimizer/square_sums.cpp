#include "kernels/optimizer/square_sums.h"

#include <algorithm>

#include "kernels/dispatch.h"

namespace echo::kernels {
namespace cpu {
namespace {

template <class T>
double sum_of_squares(const T* x, int64_t count) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < count; ++i) total += double(x[i]) * double(x[i]);
  return total;
}

template <class T>
void fill(double* sums, int64_t groups, const T* x, int64_t elements) {
#pragma omp parallel for schedule(static) if (groups > 64)
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t begin = group * kSquareSumLength;
    sums[group] = sum_of_squares(x + begin, std::min(kSquareSumLength, elements - begin));
  }
}

}  // namespace

Tensor square_sums(const Tensor& values) {
  const int64_t groups = (values.elements() + kSquareSumLength - 1) / kSquareSumLength;
  const Tensor sums = Tensor::empty({groups}, DType::f64);
  if (values.dtype() == DType::f64)
    fill(sums.data<double>(), groups, values.data<double>(), values.elements());
  else
    fill(sums.data<double>(), groups, values.data<float>(), values.elements());
  return sums;
}

}  // namespace cpu

Tensor square_sums(const Tensor& values) {
  ECHO_CHECK(values.defined() && values.rank() == 1 && values.is_contiguous() &&
                 (values.dtype() == DType::f32 || (values.dtype() == DType::f64 && values.device().is_cpu())),
             "square_sums: ", values, ", expected contiguous f32 (on a CPU also f64) of one dimension");
  return ECHO_DISPATCH_DEVICE(values, square_sums, values);
}

}  // namespace echo::kernels
