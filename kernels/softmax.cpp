#include "kernels/softmax.h"

#include "kernels/dispatch.h"
#include "kernels/vector_math.h"

namespace echo::kernels {

void softmax_forward(Tensor& y, const Tensor& x, double scale) {
  ECHO_CHECK(x.defined() && x.rank() >= 1 && is_float(x.dtype()),
             "softmax_forward: x must be (..., N) of a floating dtype, got ", x);
  ECHO_CHECK(y.defined() && y.shape() == x.shape() && y.dtype() == x.dtype() && y.device() == x.device(),
             "softmax_forward: y must be like x: ", y, ", ", x);
  ECHO_CHECK(x.is_contiguous() && y.is_contiguous(), "softmax_forward: x and y must be contiguous");
  ECHO_DISPATCH_DEVICE(x, softmax_forward, y, x, scale);
}

void softmax_backward(Tensor& dx, const Tensor& dy, const Tensor& y, double scale) {
  ECHO_CHECK(y.defined() && y.rank() >= 1 && is_float(y.dtype()),
             "softmax_backward: y must be (..., N) of a floating dtype, got ", y);
  for (const Tensor* tensor : std::initializer_list<const Tensor*>{&dx, &dy}) {
    ECHO_CHECK(
        tensor->defined() && tensor->shape() == y.shape() && tensor->dtype() == y.dtype() && tensor->device() == y.device(),
        "softmax_backward: dx and dy must be like y: ", *tensor, ", ", y);
    ECHO_CHECK(tensor->is_contiguous() && y.is_contiguous(), "softmax_backward: dx, dy and y must be contiguous");
  }
  ECHO_DISPATCH_DEVICE(y, softmax_backward, dx, dy, y, scale);
}

namespace cpu {
namespace {

// Loads a vector of accumulators from elements of any dtype.
template <class T>
ECHO_INLINE Vector<accumulator<T>> load_wide(const T* from) {
  using A = accumulator<T>;
  if constexpr (std::is_same_v<T, A>) {
    return load(from);
  } else {
    A wide[kLanes<A>];
#pragma omp simd
    for (int lane = 0; lane < kLanes<A>; ++lane) wide[lane] = A(from[lane]);
    return load(wide);
  }
}

template <class T>
ECHO_INLINE void store_narrow(T* to, Vector<accumulator<T>> value) {
  using A = accumulator<T>;
  if constexpr (std::is_same_v<T, A>) {
    store<A>(to, value);
  } else {
    A wide[kLanes<A>];
    store<A>(wide, value);
#pragma omp simd
    for (int lane = 0; lane < kLanes<A>; ++lane) to[lane] = T(wide[lane]);
  }
}

// Calls body(vector of accumulators, offset, elements) for the vectors of a row. The last vector is filled up with `padding`.
template <class T, class Body>
ECHO_INLINE void for_each_vector(const T* row, int64_t columns, accumulator<T> padding, Body&& body) {
  using A = accumulator<T>;
  constexpr int N = kLanes<A>;
  int64_t i = 0;
  for (; i + N <= columns; i += N) body(load_wide(row + i), i, int64_t{N});
  if (i == columns) return;
  A rest[N];
  for (int lane = 0; lane < N; ++lane) rest[lane] = i + lane < columns ? A(row[i + lane]) : padding;
  body(load(rest), i, columns - i);
}

template <class T>
ECHO_INLINE void store_some(T* to, Vector<accumulator<T>> value, int64_t elements) {
  if (elements == kLanes<accumulator<T>>) return store_narrow(to, value);
  for (int64_t lane = 0; lane < elements; ++lane) to[lane] = T(value[lane]);
}

template <class T>
void softmax_rows(T* y, const T* x, int64_t rows, int64_t columns, accumulator<T> scale) {
  using A = accumulator<T>;
#pragma omp parallel for if (rows * columns > 16384)
  for (int64_t r = 0; r < rows; ++r) {
    const T* const from = x + r * columns;
    T* const to = y + r * columns;
    const A factor = scale * kLog2OfE<A>, sign = factor < 0 ? A(-1) : A(1), padding = A(from[0]);
    // The extreme of x itself, not of x * factor. So its difference to itself is exactly zero for any magnitude. Padding
    // repeats the first element, and is left out of the sum.
    Vector<A> extremes = broadcast(sign * padding);
    for_each_vector(from, columns, padding, [&](Vector<A> v, int64_t, int64_t) { extremes = maximum<A>(extremes, v * sign); });
    const A extreme = sign * maximum_of_lanes<A>(extremes);
    const auto exponential = [&](Vector<A> v) { return exp2_of_nonpositive<A>((v - extreme) * factor); };
    Vector<A> sums{};
    A rest = 0;
    for_each_vector(from, columns, padding, [&](Vector<A> v, int64_t, int64_t elements) {
      const Vector<A> p = exponential(v);
      if (elements == kLanes<A>)
        sums += p;
      else
        for (int64_t lane = 0; lane < elements; ++lane) rest += p[lane];
    });
    const A inverse = A(1) / (sum_of_lanes<A>(sums) + rest);
    for_each_vector(from, columns, padding,
                    [&](Vector<A> v, int64_t i, int64_t elements) { store_some(to + i, exponential(v) * inverse, elements); });
  }
}

template <class T>
void softmax_backward_rows(T* dx, const T* dy, const T* y, int64_t rows, int64_t columns, accumulator<T> scale) {
  using A = accumulator<T>;
#pragma omp parallel for if (rows * columns > 16384)
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t begin = r * columns;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < begin + columns; ++i) sum += A(dy[i]) * A(y[i]);
#pragma omp simd
    for (int64_t i = begin; i < begin + columns; ++i) dx[i] = T(scale * A(y[i]) * (A(dy[i]) - sum));
  }
}

}  // namespace

void softmax_forward(Tensor& y, const Tensor& x, double scale) {
  if (x.elements() == 0) return;
  const int64_t columns = x.dim(-1), rows = x.elements() / columns;
  dispatch_float(x.dtype(),
                 [&]<class T>() { softmax_rows<T>(y.data<T>(), x.data<T>(), rows, columns, accumulator<T>(scale)); });
}

void softmax_backward(Tensor& dx, const Tensor& dy, const Tensor& y, double scale) {
  if (y.elements() == 0) return;
  const int64_t columns = y.dim(-1), rows = y.elements() / columns;
  dispatch_float(y.dtype(), [&]<class T>() {
    softmax_backward_rows<T>(dx.data<T>(), dy.data<T>(), y.data<T>(), rows, columns, accumulator<T>(scale));
  });
}

}  // namespace cpu
}  // namespace echo::kernels
