#include "kernels/matmul/matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/matmul/cpu_engine.h"
#include "kernels/matmul/operands.h"

namespace echo::kernels {
namespace {

// Simple loops for f64, the dtype of checks. op(b) is packed so that the inner loop runs along a row of c.
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
             ": elements of a row must be adjacent");
}

// The row stride. A single row may have any stride, but libraries require one that is at least the row's length.
int64_t leading_dimension(const Tensor& matrix) {
  return matrix.dim(0) <= 1 ? std::max<int64_t>(1, matrix.dim(1)) : matrix.stride(0);
}

}  // namespace

namespace cpu {

void matmul(const MatmulOperands& p) {
  if (p.dtype == DType::f64) {
    matmul_f64(static_cast<double*>(p.c), p.ldc, static_cast<const double*>(p.a), p.transpose_a ? 1 : p.lda,
               p.transpose_a ? p.lda : 1, static_cast<const double*>(p.b), p.transpose_b ? 1 : p.ldb, p.transpose_b ? p.ldb : 1,
               p.m, p.n, p.k, p.accumulate);
  } else if (p.dtype == DType::f32) {
    engine::matmul_f32(static_cast<float*>(p.c), p.ldc, static_cast<const float*>(p.a), p.lda, p.transpose_a,
                       static_cast<const float*>(p.b), p.ldb, p.transpose_b, p.m, p.n, p.k, p.accumulate);
  } else {
    engine::matmul_bf16(p.c, p.c_dtype, p.ldc, static_cast<const bfloat16*>(p.a), p.lda, p.transpose_a,
                        static_cast<const bfloat16*>(p.b), p.ldb, p.transpose_b, p.m, p.n, p.k, p.accumulate);
  }
}

}  // namespace cpu

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
  ECHO_CHECK(a.device() == c.device() && b.device() == c.device(), "matmul: a is on ", a.device(), ", b on ", b.device(),
             ", c on ", c.device());
  ECHO_CHECK(c.device().is_cpu() || a.dtype() != DType::f64, "matmul: f64 on ", c.device(), ", expected f32 or bf16");
  if (m == 0 || n == 0) return;
  const bool accumulate = mode == GradientMode::accumulate;
  if (k == 0) {
    for (int64_t i = 0; i < m && !accumulate; ++i) c.narrow(0, i, 1).fill_zero();
    return;
  }
  const MatmulOperands operands = {
      c.raw_data(),         a.raw_data(),         b.raw_data(),         a.dtype(), c.dtype(), m,          n,         k,
      leading_dimension(a), leading_dimension(b), leading_dimension(c), ta,        tb,        accumulate, c.device()};
  ECHO_DISPATCH_DEVICE(c, matmul, operands);
}

void allow_tf32(bool allowed) {
  if constexpr (kWithCuda) cuda::allow_tf32(allowed);
}

}  // namespace echo::kernels
