#include "kernels/matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/matmul_engine.h"

namespace echo::kernels {
namespace {

// Plain loops for f64, the dtype of checks: op(b) is packed so that the inner loop runs along a row of c.
void matmul_f64(double* c, int64_t ldc, const double* a, int64_t a_row, int64_t a_column, const double* b, int64_t b_row,
                int64_t b_column, int64_t m, int64_t n, int64_t k, bool accumulate) {
  std::vector<double> packed(size_t(k * n));
  for (int64_t p = 0; p < k; ++p)
    for (int64_t j = 0; j < n; ++j) packed[size_t(p * n + j)] = b[p * b_row + j * b_column];
#pragma omp parallel for schedule(static) if (m * n * k > 1 << 16)
  for (int64_t i = 0; i < m; ++i) {
    double* row = c + i * ldc;
    if (!accumulate) std::fill(row, row + n, 0.0);
    for (int64_t p = 0; p < k; ++p) {
      const double factor = a[i * a_row + p * a_column];
      const double* source = packed.data() + p * n;
      for (int64_t j = 0; j < n; ++j) row[j] += factor * source[j];
    }
  }
}

void check_operand(const char* name, const Tensor& tensor) {
  ECHO_CHECK(tensor.defined() && tensor.rank() == 2, "matmul: ", name, " is ", tensor, ", expected rank 2");
  ECHO_CHECK(tensor.dim(1) <= 1 || tensor.stride(1) == 1, "matmul: ", name, " ", tensor,
             ": elements of a row are not adjacent");
  ECHO_CHECK(tensor.device().is_cpu(), "matmul: ", name, " is on ", tensor.device(), ", expected cpu");
}

// The distance between rows. A single row may have any stride, but libraries want one that a row fits into.
int64_t leading_dimension(const Tensor& matrix) {
  return matrix.dim(0) <= 1 ? std::max<int64_t>(1, matrix.dim(1)) : matrix.stride(0);
}

}  // namespace

void matmul(Tensor& c, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b, GradientMode mode) {
  check_operand("a", a);
  check_operand("b", b);
  check_operand("c", c);
  const bool ta = transpose_a == Transpose::yes, tb = transpose_b == Transpose::yes;
  const int64_t m = a.dim(ta ? 1 : 0), k = a.dim(ta ? 0 : 1), n = b.dim(tb ? 0 : 1);
  ECHO_CHECK(b.dim(tb ? 1 : 0) == k, "matmul: inner dimensions differ: ", ta ? "transposed " : "", "a ", a.shape(), " x ",
             tb ? "transposed " : "", "b ", b.shape());
  ECHO_CHECK(c.dim(0) == m && c.dim(1) == n, "matmul: c is ", c.shape(), ", expected (", m, ", ", n, ")");
  ECHO_CHECK(a.dtype() == b.dtype() && is_float(a.dtype()), "matmul: dtypes of a and b: ", a.dtype(), ", ", b.dtype());
  ECHO_CHECK(c.dtype() == a.dtype() || (c.dtype() == DType::f32 && a.dtype() == DType::bf16), "matmul: c is ", c.dtype(),
             " for operands of ", a.dtype());
  if (m == 0 || n == 0) return;
  const bool accumulate = mode == GradientMode::accumulate;
  const int64_t lda = leading_dimension(a), ldb = leading_dimension(b), ldc = leading_dimension(c);
  if (k == 0) {
    for (int64_t i = 0; i < m && !accumulate; ++i) c.narrow(0, i, 1).fill_zero();
    return;
  }
  if (a.dtype() == DType::f64) {
    matmul_f64(c.data<double>(), ldc, a.data<double>(), ta ? 1 : lda, ta ? lda : 1, b.data<double>(), tb ? 1 : ldb,
               tb ? ldb : 1, m, n, k, accumulate);
  } else if (a.dtype() == DType::f32) {
    engine::matmul_f32(c.data<float>(), ldc, a.data<float>(), lda, ta, b.data<float>(), ldb, tb, m, n, k, accumulate);
  } else {
    engine::matmul_bf16(c.raw_data(), c.dtype(), ldc, a.data<bfloat16>(), lda, ta, b.data<bfloat16>(), ldb, tb, m, n, k,
                        accumulate);
  }
}

}  // namespace echo::kernels
