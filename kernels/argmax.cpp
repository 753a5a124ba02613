#include "kernels/argmax.h"

#include <cmath>

#include "kernels/dispatch.h"

namespace echo::kernels {
namespace cpu {

void argmax(Tensor& index, const Tensor& x) {
  const int64_t rows = x.dim(0), width = x.dim(1);
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* data = x.data<T>();
    int32_t* result = index.data<int32_t>();
    for (int64_t row = 0; row < rows; ++row, data += width) {
      int64_t best = 0;
      bool has_nan = false;
      for (int64_t i = 0; i < width; ++i) {
        const auto value = static_cast<accumulator<T>>(data[i]);
        has_nan |= std::isnan(value);
        if (value > static_cast<accumulator<T>>(data[best])) best = i;
      }
      const bool is_good = !has_nan && width > 0 && std::isfinite(static_cast<accumulator<T>>(data[best]));
      result[row] = is_good ? int32_t(best) : -1;
    }
  });
}

}  // namespace cpu

void argmax(Tensor& index, const Tensor& x) {
  ECHO_CHECK(x.rank() == 2 && x.is_contiguous() && is_float(x.dtype()), "argmax: x is ", x,
             ", expected contiguous floats (N, V)");
  ECHO_CHECK(
      index.dtype() == DType::i32 && index.shape() == Shape{x.dim(0)} && index.is_contiguous() && index.device() == x.device(),
      "argmax: index is ", index, " for x ", x);
  ECHO_DISPATCH_DEVICE(x, argmax, index, x);
}

}  // namespace echo::kernels
