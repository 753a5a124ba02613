#include "kernels/rope.h"

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {

void rope(Tensor& y, const Tensor& x, const RopeTable& table, int64_t first_position, RopeDirection direction) {
  const int64_t batch = x.dim(0), tokens = x.dim(1), heads = x.dim(2), half = x.dim(3) / 2;
  dispatch_float(x.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const A* cosines = table.cosine.data<A>();
    const A* sines = table.sine.data<A>();
    const A sign = direction == RopeDirection::forward ? A(1) : A(-1);
    const T* x_data = x.data<T>();
    T* y_data = y.data<T>();
#pragma omp parallel for schedule(static) if (x.elements() > 1 << 14)
    for (int64_t item = 0; item < batch * tokens; ++item) {
      const int64_t b = item / tokens, t = item % tokens;
      const A* cosine = cosines + (first_position + t) * half;
      const A* sine = sines + (first_position + t) * half;
      for (int64_t h = 0; h < heads; ++h) {
        const T* source = x_data + b * x.stride(0) + t * x.stride(1) + h * x.stride(2);
        T* target = y_data + b * y.stride(0) + t * y.stride(1) + h * y.stride(2);
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          const A first = A(source[i]), second = A(source[i + half]), turn = sign * sine[i];
          assign(target[i], first * cosine[i] - second * turn);
          assign(target[i + half], second * cosine[i] + first * turn);
        }
      }
    }
  });
}

}  // namespace cpu

void rope(Tensor& y, const Tensor& x, const RopeTable& table, int64_t first_position, RopeDirection direction) {
  ECHO_CHECK(x.rank() == 4 && x.stride(3) == 1 && x.dim(3) % 2 == 0, "rope: x is ", x,
             ", expected (B, T, H, Dh) with an even Dh and adjacent elements");
  ECHO_CHECK(y.shape() == x.shape() && y.dtype() == x.dtype() && y.stride(3) == 1, "rope: y is ", y, ", x is ", x);
  const int64_t tokens = x.dim(1), half = x.dim(3) / 2;
  ECHO_CHECK(first_position >= 0 && first_position <= table.positions() - tokens, "rope: positions ", first_position, " to ",
             first_position + tokens, ", the table has ", table.positions());
  ECHO_CHECK(table.cosine.defined() && table.sine.defined() && table.cosine.rank() == 2 &&
                 table.cosine.shape() == table.sine.shape() && table.cosine.is_contiguous() && table.sine.is_contiguous(),
             "rope: table is ", table.cosine, " and ", table.sine, ", expected contiguous (positions, Dh / 2) twice");
  ECHO_CHECK(table.cosine.dim(1) == half && table.cosine.dtype() == accumulator_dtype(x.dtype()), "rope: table is ",
             table.cosine, " for x ", x);
  ECHO_CHECK(y.device() == x.device() && table.cosine.device() == x.device() && table.sine.device() == x.device(),
             "rope: x is on ", x.device(), ", y on ", y.device(), ", table on ", table.cosine.device());
  ECHO_DISPATCH_DEVICE(x, rope, y, x, table, first_position, direction);
}

}  // namespace echo::kernels
