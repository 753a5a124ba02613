#include "kernels/embedding.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {

namespace {

void check_ids(const char* operation, const Tensor& ids, int64_t vocabulary) {
  const int32_t* id = ids.data<int32_t>();
  for (int64_t i = 0; i < ids.dim(0); ++i)
    ECHO_CHECK(id[i] >= 0 && id[i] < vocabulary, operation, ": id ", id[i], " at position ", i, ", vocabulary ", vocabulary);
}

void check_places(const char* operation, const Tensor& ids, const Tensor& rows, const Tensor& table) {
  ECHO_CHECK(ids.is_contiguous(), operation, ": ids are ", ids, ", expected contiguous (N)");
  ECHO_CHECK(rows.device() == table.device() && ids.device() == table.device(), operation, ": ids on ", ids.device(),
             ", rows on ", rows.device(), ", table on ", table.device());
}

}  // namespace

namespace cpu {

void embedding_forward(Tensor& y, const Tensor& ids, const Tensor& table) {
  check_ids("embedding", ids, table.dim(0));
  const int64_t width = table.dim(1);
  const int32_t* id = ids.data<int32_t>();
  dispatch_float(table.dtype(), [&]<class W>() {
    dispatch_float(y.dtype(), [&]<class T>() {
      const W* source = table.data<W>();
      T* target = y.data<T>();
      for (int64_t i = 0; i < ids.dim(0); ++i)
        for (int64_t j = 0; j < width; ++j)
          assign(target[i * width + j], static_cast<accumulator<T>>(source[id[i] * width + j]));
    });
  });
}

void embedding_backward(Tensor& d_table, GradientMode mode, const Tensor& dy, const Tensor& ids) {
  check_ids("embedding_backward", ids, d_table.dim(0));
  if (mode == GradientMode::overwrite) d_table.fill_zero();
  const int64_t width = d_table.dim(1);
  const int32_t* id = ids.data<int32_t>();
  // Positions sorted by their ids, so that each row of the table is written by one thread.
  std::vector<int64_t> order(size_t(ids.dim(0)));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return id[a] < id[b]; });
  std::vector<int64_t> starts;
  for (size_t i = 0; i < order.size(); ++i)
    if (i == 0 || id[order[i]] != id[order[i - 1]]) starts.push_back(int64_t(i));
  const int64_t groups = int64_t(starts.size());
  starts.push_back(int64_t(order.size()));
  dispatch_float(dy.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const T* gradient = dy.data<T>();
    A* table = d_table.data<A>();
#pragma omp parallel for schedule(static) if (dy.elements() > 1 << 14)
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t i = starts[size_t(group)]; i < starts[size_t(group) + 1]; ++i) {
        const int64_t position = order[size_t(i)];
        A* row = table + id[position] * width;
        const T* source = gradient + position * width;
        for (int64_t j = 0; j < width; ++j) row[j] += A(source[j]);
      }
    }
  });
}

}  // namespace cpu

void embedding_forward(Tensor& y, const Tensor& ids, const Tensor& table) {
  ECHO_CHECK(table.rank() == 2 && table.is_contiguous(), "embedding: table is ", table, ", expected contiguous (V, D)");
  ECHO_CHECK(ids.rank() == 1 && (y.shape() == Shape{ids.dim(0), table.dim(1)}) && y.is_contiguous(), "embedding: y is ", y,
             " for ids ", ids, ", table ", table);
  check_places("embedding", ids, y, table);
  ECHO_DISPATCH_DEVICE(y, embedding_forward, y, ids, table);
}

void embedding_backward(Tensor& d_table, GradientMode mode, const Tensor& dy, const Tensor& ids) {
  ECHO_CHECK(d_table.rank() == 2 && d_table.is_contiguous() && d_table.dtype() == accumulator_dtype(dy.dtype()),
             "embedding_backward: d_table is ", d_table, " for dy ", dy);
  ECHO_CHECK(ids.rank() == 1 && (dy.shape() == Shape{ids.dim(0), d_table.dim(1)}) && dy.is_contiguous(),
             "embedding_backward: dy is ", dy, " for ids ", ids, ", d_table ", d_table);
  check_places("embedding_backward", ids, dy, d_table);
  ECHO_DISPATCH_DEVICE(dy, embedding_backward, d_table, mode, dy, ids);
}

}  // namespace echo::kernels
