#include "kernels/reduce.h"

#include <algorithm>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

constexpr int64_t kSlice = 1 << 14;

// One thread sums each slice of kSlice elements.
template <class T>
double sum_elements(const T* x, int64_t count) {
  const int64_t slices = (count + kSlice - 1) / kSlice;
  std::vector<double> partial(static_cast<size_t>(slices));
#pragma omp parallel for schedule(static) if (count > kSerialElements)
  for (int64_t slice = 0; slice < slices; ++slice) {
    const int64_t begin = slice * kSlice, end = std::min(count, begin + kSlice);
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = begin; i < end; ++i) total += double(static_cast<accumulator<T>>(x[i]));
    partial[size_t(slice)] = total;
  }
  double total = 0;
  for (double value : partial) total += value;
  return total;
}

// Sums a fixed number of rows into each of a few partial sums, so that tall matrices use all threads.
template <class Y, class T>
void sum_row_slices(Y* y, const T* x, int64_t rows, int64_t columns, GradientMode mode) {
  using A = accumulator<T>;
  constexpr int64_t kMostSlices = 64;
  const int64_t rows_per_slice = std::max<int64_t>(64, (rows + kMostSlices - 1) / kMostSlices);
  const int64_t slices = (rows + rows_per_slice - 1) / rows_per_slice;
  std::vector<A> partial(size_t(slices * columns), A(0));
#pragma omp parallel for schedule(static) if (rows * columns > kSerialElements)
  for (int64_t slice = 0; slice < slices; ++slice) {
    A* total = partial.data() + slice * columns;
    for (int64_t row = slice * rows_per_slice; row < std::min(rows, (slice + 1) * rows_per_slice); ++row) {
      const T* values = x + row * columns;
#pragma omp simd
      for (int64_t i = 0; i < columns; ++i) total[i] += static_cast<A>(values[i]);
    }
  }
#pragma omp parallel for schedule(static) if (slices * columns > kSerialElements)
  for (int64_t i = 0; i < columns; ++i) {
    A total = mode == GradientMode::accumulate ? A(y[i]) : A(0);
    for (int64_t slice = 0; slice < slices; ++slice) total += partial[size_t(slice * columns + i)];
    assign(y[i], total);
  }
}

}  // namespace

double sum(const Tensor& x) {
  double result = 0;
  dispatch_float(x.dtype(), [&]<class T>() { result = sum_elements(x.data<T>(), x.elements()); });
  return result;
}

void sum_rows(Tensor& y, const Tensor& x, GradientMode mode) {
  const int64_t columns = x.dim(-1);
  if (columns == 0) return;
  const int64_t rows = x.elements() / columns;
  dispatch_float(x.dtype(), [&]<class T>() {
    if (y.dtype() == x.dtype())
      sum_row_slices(y.data<T>(), x.data<T>(), rows, columns, mode);
    else
      sum_row_slices(y.data<accumulator<T>>(), x.data<T>(), rows, columns, mode);
  });
}

}  // namespace cpu

double sum(const Tensor& x) {
  check_operands("sum", x.shape(), {&x});
  return ECHO_DISPATCH_DEVICE(x, sum, x);
}

void sum_rows(Tensor& y, const Tensor& x, GradientMode mode) {
  check_operands("sum_rows", x.shape(), {&x});
  ECHO_CHECK(x.rank() >= 1 && y.defined() && y.shape() == Shape{x.dim(-1)} && y.is_contiguous() && y.device() == x.device(),
             "sum_rows: x ", x, " into y ", y, ", expected one value per column");
  ECHO_CHECK(y.dtype() == x.dtype() || y.dtype() == accumulator_dtype(x.dtype()), "sum_rows: x ", x, " into y ", y);
  ECHO_DISPATCH_DEVICE(x, sum_rows, y, x, mode);
}

}  // namespace echo::kernels
