#include "kernels/rms_norm.h"

#include <cmath>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"
#include "kernels/row_chunks.h"

namespace echo::kernels {
namespace {

template <class A>
std::vector<A> widened(const Tensor& weight) {
  std::vector<A> result(size_t(weight.elements()));
  dispatch_float(weight.dtype(), [&]<class W>() {
    const W* source = weight.data<W>();
    for (size_t i = 0; i < result.size(); ++i) result[i] = A(source[i]);
  });
  return result;
}

void check_arguments(const char* operation, const Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& inverse_rms) {
  ECHO_CHECK(x.rank() >= 1 && x.is_contiguous() && is_float(x.dtype()), operation, ": x is ", x,
             ", expected contiguous floats");
  ECHO_CHECK(y.shape() == x.shape() && y.dtype() == x.dtype() && y.is_contiguous(), operation, ": y is ", y, ", x is ", x);
  ECHO_CHECK(weight.rank() == 1 && weight.dim(0) == x.dim(-1) && weight.is_contiguous(), operation, ": weight is ",
             weight.shape(), ", expected (", x.dim(-1), ")");
  ECHO_CHECK(inverse_rms.dtype() == accumulator_dtype(x.dtype()) && inverse_rms.is_contiguous() &&
                 inverse_rms.elements() * x.dim(-1) == x.elements(),
             operation, ": inverse_rms is ", inverse_rms, " for x ", x);
  ECHO_CHECK(y.device() == x.device() && weight.device() == x.device(), operation, ": tensors on different devices");
}

}  // namespace

namespace cpu {

// `delta` and `sum` are undefined in the form without a residual.
void rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta, const Tensor& weight,
                      double eps) {
  const int64_t width = x.dim(-1), rows = inverse_rms.elements();
  dispatch_float(x.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const std::vector<A> scale = widened<A>(weight);
    const T* x_data = x.data<T>();
    const T* delta_data = delta.defined() ? delta.data<T>() : nullptr;
    T* sum_data = sum.defined() ? sum.data<T>() : nullptr;
    T* y_data = y.data<T>();
    A* inverse_data = inverse_rms.data<A>();
#pragma omp parallel for schedule(static) if (rows * width > 1 << 14)
    for (int64_t row = 0; row < rows; ++row) {
      const T* input = x_data + row * width;
      if (delta_data != nullptr) {
        const T* addend = delta_data + row * width;
        T* total = sum_data + row * width;
        for (int64_t i = 0; i < width; ++i) assign(total[i], A(input[i]) + A(addend[i]));
        input = total;
      }
      A squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; ++i) squares += A(input[i]) * A(input[i]);
      const A inverse = A(1) / std::sqrt(squares / A(width) + A(eps));
      inverse_data[row] = inverse;
      T* output = y_data + row * width;
      const A* w = scale.data();
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) assign(output[i], A(input[i]) * inverse * w[i]);
    }
  });
}

// With h = x * inverse_rms and g = dy * weight:
// dx = inverse_rms * (g - h * mean(g * h)) + d_sum,  dweight = sum over rows of dy * h.
void rms_norm_backward(Tensor& dx, Tensor& dweight, GradientMode weight_mode, const Tensor& dy, const Tensor& d_sum,
                       const Tensor& x, const Tensor& weight, const Tensor& inverse_rms) {
  const int64_t width = x.dim(-1);
  const RowChunks chunks(inverse_rms.elements());
  dispatch_float(x.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const std::vector<A> scale = widened<A>(weight);
    const T *x_data = x.data<T>(), *dy_data = dy.data<T>();
    const T* d_sum_data = d_sum.defined() ? d_sum.data<T>() : nullptr;
    const A* inverse_data = inverse_rms.data<A>();
    T* dx_data = dx.data<T>();
    std::vector<A> partial(dweight.defined() ? size_t(chunks.count() * width) : 0, A(0));
#pragma omp parallel for schedule(static) if (chunks.rows * width > 1 << 14)
    for (int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      A* own = partial.empty() ? nullptr : partial.data() + chunk * width;
      const A* w = scale.data();
      for (int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
        const T *input = x_data + row * width, *gradient = dy_data + row * width;
        const T* passed = d_sum_data != nullptr ? d_sum_data + row * width : nullptr;
        T* output = dx_data + row * width;
        const A inverse = inverse_data[row];
        A inner = 0;
#pragma omp simd reduction(+ : inner)
        for (int64_t i = 0; i < width; ++i) inner += A(gradient[i]) * w[i] * A(input[i]);
        if (own != nullptr) {  // before dx is written, because dx may be dy
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) own[i] += A(gradient[i]) * A(input[i]) * inverse;
        }
        const A factor = inner * inverse * inverse / A(width);
        if (passed != nullptr) {
#pragma omp simd
          for (int64_t i = 0; i < width; ++i)
            assign(output[i], inverse * (A(gradient[i]) * w[i] - A(input[i]) * factor) + A(passed[i]));
        } else {
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) assign(output[i], inverse * (A(gradient[i]) * w[i] - A(input[i]) * factor));
        }
      }
    }
    if (partial.empty()) return;
    A* target = dweight.data<A>();
    if (weight_mode == GradientMode::overwrite) std::fill(target, target + width, A(0));
    for (int64_t chunk = 0; chunk < chunks.count(); ++chunk)
      for (int64_t i = 0; i < width; ++i) target[i] += partial[size_t(chunk * width + i)];
  });
}

}  // namespace cpu

void rms_norm_forward(Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& weight, double eps) {
  check_arguments("rms_norm", y, x, weight, inverse_rms);
  Tensor none;
  ECHO_DISPATCH_DEVICE(x, rms_norm_forward, none, y, inverse_rms, x, Tensor(), weight, eps);
}

void add_rms_norm_forward(Tensor& sum, Tensor& y, Tensor& inverse_rms, const Tensor& x, const Tensor& delta,
                          const Tensor& weight, double eps) {
  check_arguments("add_rms_norm", y, x, weight, inverse_rms);
  ECHO_CHECK(delta.shape() == x.shape() && delta.dtype() == x.dtype() && delta.is_contiguous(), "add_rms_norm: delta is ",
             delta, ", x is ", x);
  ECHO_CHECK(sum.shape() == x.shape() && sum.dtype() == x.dtype() && sum.is_contiguous(), "add_rms_norm: sum is ", sum,
             ", x is ", x);
  ECHO_DISPATCH_DEVICE(x, rms_norm_forward, sum, y, inverse_rms, x, delta, weight, eps);
}

void rms_norm_backward(Tensor& dx, Tensor& dweight, GradientMode weight_mode, const Tensor& dy, const Tensor& d_sum,
                       const Tensor& x, const Tensor& weight, const Tensor& inverse_rms) {
  check_arguments("rms_norm_backward", dx, x, weight, inverse_rms);
  check_arguments("rms_norm_backward", dy, x, weight, inverse_rms);
  if (d_sum.defined()) check_arguments("rms_norm_backward", d_sum, x, weight, inverse_rms);
  if (dweight.defined())
    ECHO_CHECK(dweight.shape() == weight.shape() && dweight.dtype() == accumulator_dtype(x.dtype()) && dweight.is_contiguous(),
               "rms_norm_backward: dweight is ", dweight, ", weight is ", weight);
  ECHO_DISPATCH_DEVICE(x, rms_norm_backward, dx, dweight, weight_mode, dy, d_sum, x, weight, inverse_rms);
}

}  // namespace echo::kernels
